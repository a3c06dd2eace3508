package oauthtest

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// An Endpoint is a place of the server.
type Endpoint string

// The places of a server.
const (
	TokenEndpoint         Endpoint = "token"
	RevocationEndpoint    Endpoint = "revocation"
	APIEndpoint           Endpoint = "api"
	LoginPage             Endpoint = "login"
	AuthorizationEndpoint Endpoint = "authorization"
	PushedEndpoint        Endpoint = "pushed" // pushed authorization requests
	DeviceEndpoint        Endpoint = "device" // device authorization; polls are at the token endpoint
	MetadataEndpoint      Endpoint = "metadata"
	KeysEndpoint          Endpoint = "keys"
)

// An Outcome is what the server made of a request. It says nothing about
// whether the client got to know: see [Entry.AnswerWritten].
type Outcome string

// The outcomes. The comment names the endpoints where they occur.
const (
	Pending              Outcome = "pending"               // any: still being held or delayed before processing
	Granted              Outcome = "granted"               // token: tokens were issued
	Reuse                Outcome = "reuse"                 // token: a spent refresh token or code; the family was killed; authorization: a spent request_uri
	FamilyDead           Outcome = "family-dead"           // token: the session had ended before
	Expired              Outcome = "expired"               // token, authorization: the refresh token, code or request_uri had expired
	Mismatch             Outcome = "mismatch"              // token, revocation, authorization: another client, redirect URI or verifier than before; Detail says which
	UnknownToken         Outcome = "unknown-token"         // token, revocation, authorization: never issued
	BadScope             Outcome = "bad-scope"             // token, authorization, pushed, device: more scope than was granted or exists
	BadTarget            Outcome = "bad-target"            // token, authorization, pushed, device: a resource that is malformed, unknown or not granted
	BadGrantType         Outcome = "bad-grant-type"        // token: unknown grant type
	BadClient            Outcome = "bad-client"            // token, revocation, authorization, pushed, device: client unknown or not authenticated
	BadRequest           Outcome = "bad-request"           // any: the request breaks a rule; Detail says which
	CodeIssued           Outcome = "code-issued"           // authorization, device: a code was issued
	RequestIssued        Outcome = "request-issued"        // pushed: a request_uri was issued
	Denied               Outcome = "denied"                // authorization: by Fault.Deny; token: by DenyDevice
	AuthorizationPending Outcome = "authorization-pending" // token: a poll, and the user has not decided
	SlowDown             Outcome = "slow-down"             // token: a poll that came too soon
	Revoked              Outcome = "revoked"               // revocation: the token is dead now
	Served               Outcome = "served"                // api, login, metadata, keys: 200
	NotFound             Outcome = "not-found"             // metadata, keys: not in this place
	NoToken              Outcome = "no-token"              // api: 401 without a token shown
	InvalidToken         Outcome = "invalid-token"         // api: 401, the token is not live
	WrongAudience        Outcome = "wrong-audience"        // api: 401, the token is live, but for other resources
	InsufficientScope    Outcome = "insufficient-scope"    // api: 403
	DamagedBody          Outcome = "damaged-body"          // api: length or checksum of the body differs
	Canned               Outcome = "canned"                // any: a fault answered; nothing was processed
	DroppedBefore        Outcome = "dropped-before"        // any: connection dropped; nothing was processed
	Unsent               Outcome = "unsent"                // any: the transport failed before sending
)

// An Entry is what the log keeps of one request. It holds no token: tokens
// appear as fingerprints, see [Fingerprint].
type Entry struct {
	ID       int      // position in the log, from 1, in order of arrival
	Endpoint Endpoint // which place
	Method   string
	Path     string // without query

	Arrived time.Time // when the request's header was there
	Decided time.Time // when it was processed; zero if it was not

	// AnswerWritten is when the answer's last byte was handed to the
	// connection; zero if it was not. A client that has the whole answer
	// always finds it set. That it is set does not prove that the client got
	// the answer: the last bytes may be on their way. On a socket it is set
	// when the last write begins, and withdrawn if that fails.
	AnswerWritten time.Time

	// Order numbers the requests that were processed, from 1, in the order
	// in which they took effect. 0 means that the request took none: it was
	// dropped, answered by a fault, or is still pending.
	Order int

	Outcome Outcome
	Detail  string // for BadRequest, BadClient, BadScope, BadTarget and Mismatch, and some others: which rule
	Status  int    // of the answer as it was to be sent; 0 if there was none
	Fault   string // name of the fault that was applied; "" if none
	Dropped bool   // a fault dropped the connection

	GrantType string // as the request says
	Client    string // as the request says
	Subject   string // of the token or code that was shown or issued
	Family    int    // number of its login, from 1; 0 if unknown, or not yet redeemed

	// Generation is the place of the shown token in its family, from 1. An
	// access token has the generation of the refresh token it came with.
	Generation    int
	NewGeneration int // of the refresh token in the answer; 0 if there was none

	Presented     string // fingerprint of the refresh token, access token, code, device code, request_uri, assertion or subject token shown
	IssuedCode    string // fingerprint of the code, device code or request_uri in the answer
	IssuedAccess  string // fingerprint
	IssuedRefresh string // fingerprint of the refresh token in the answer

	// Scope and Resource are what the access token in the answer, or the one
	// that was shown, is good for; at the authorization, pushed and device
	// endpoints, what the code stands for. Several are separated by spaces, in the order
	// in which they were asked for. An empty Resource means that the token is
	// restricted to none.
	Scope, Resource string

	Assertion string // fingerprint of the client assertion shown

	BodyLength int64 // api: bytes of body that were read
}

// Stats counts what happened since New.
type Stats struct {
	Logins int // calls of Login; CodeLogins and DeviceLogins are apart

	TokenRequests     int // requests at the token endpoint, unsent ones excluded
	Refreshes         int // refresh_token grants that succeeded
	ClientCredentials int // client_credentials grants that succeeded
	JWTBearers        int // jwt-bearer grants that succeeded
	Exchanges         int // token exchanges that succeeded
	GraceUses         int // refreshes that succeeded with a spent token
	Reuses            int // spent refresh tokens shown outside of any grace
	FamilyKills       int // sessions that a reuse ended, be it of a token or of a code
	InvalidGrants     int // refresh tokens, codes and assertions refused with invalid_grant
	BadClients        int // failed client authentications

	ReplayedAssertions int // requests with an assertion that was used before

	BadRequests       int // requests that break a rule
	PeakTokenRequests int // most requests at the token endpoint at one time, held ones included

	AuthorizationRequests int // requests at the authorization endpoint
	PushedRequests        int // requests at the pushed authorization request endpoint
	CodeLogins            int // authorization_code grants that succeeded
	CodeReuses            int // spent codes and device codes shown again
	DeviceRequests        int // requests at the device authorization endpoint
	DeviceLogins          int // device_code grants that succeeded
	Polls                 int // device_code grants asked for with a code that was issued to the client
	SlowDowns             int // of which came too soon
	MetadataRequests      int
	KeysRequests          int // requests for keys that got them

	RevocationRequests int
	Revocations        int // tokens that were alive and are no longer

	APIRequests       int
	APIServed         int // 200
	APIUnauthorized   int // 401 of the API itself, faults excluded
	APIForbidden      int // 403 of the API itself, faults excluded
	DamagedBodies     int // bodies that differ from their length or checksum
	Canned            int // answers that a fault gave without processing
	Dropped           int // connections that a fault dropped, before or after
	Unsent            int // requests that a fault kept from being sent
	AnswersNotWritten int // answers that did not get to their last byte
}

// Fingerprint is how the log shows a token: the first twelve hexadecimal digits
// of its SHA-256. The fingerprint of "" is "".
func Fingerprint(token string) string {
	if token == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:6])
}

// Log returns a copy of what happened so far, in order of arrival.
func (s *Server) Log() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Entry, len(s.entries))
	for i, e := range s.entries {
		out[i] = *e
	}
	return out
}

// LogAfter is Log without the first n entries: what came after the entry with
// ID n.
func (s *Server) LogAfter(n int) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Entry
	for _, e := range s.entries[min(max(n, 0), len(s.entries)):] {
		out = append(out, *e)
	}
	return out
}

// LogOf is Log for one endpoint alone.
func (s *Server) LogOf(ep Endpoint) []Entry {
	return slices.DeleteFunc(s.Log(), func(e Entry) bool { return e.Endpoint != ep })
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}
