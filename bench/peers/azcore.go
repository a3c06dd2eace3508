package peers

import (
	"context"
	"maps"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

const azcorePath = "github.com/Azure/azure-sdk-for-go/sdk/azcore"

// Azcore is a BearerTokenPolicy in the default pipeline of the Azure SDK, and
// AzcoreChallenge one that gets a new token and tries again when the API
// answers 401. The credential, which refreshes, is the caller's code: it keeps
// nothing, as the policy does that. The pipeline is the only way to a token.
//
// The policy refreshes five minutes before expiry, or when the credential says:
// Setup.Lead goes that way. It does so no sooner than 30 seconds after the last
// attempt, the first one included. A token that lives for less than 30 seconds
// and the lead is thus only replaced once it has expired.
var (
	Azcore          = Peer{Name: "azcore", Module: azcorePath, Open: func(s Setup) (*Session, error) { return openAzcore(s, nil) }}
	AzcoreChallenge = Peer{Name: "azcore + OnChallenge", Module: azcorePath, Open: func(s Setup) (*Session, error) { return openAzcore(s, authorizeAgain) }}
)

var azcoreScopes = []string{"api"}

func authorizeAgain(_ *policy.Request, _ *http.Response, authorize func(policy.TokenRequestOptions) error) error {
	return authorize(policy.TokenRequestOptions{Scopes: azcoreScopes})
}

func openAzcore(s Setup, onChallenge func(*policy.Request, *http.Response, func(policy.TokenRequestOptions) error) error) (*Session, error) {
	if s.Token == nil {
		return nil, errNoStore
	}
	bearer := runtime.NewBearerTokenPolicy(credential{newRenewer(s), s}, azcoreScopes, &policy.BearerTokenOptions{
		AuthorizationHandler:            policy.AuthorizationHandler{OnChallenge: onChallenge},
		InsecureAllowCredentialWithHTTP: true, // for APIs on the loopback interface
	})
	pl := runtime.NewPipeline("bench", "v1.0.0", runtime.PipelineOptions{PerRetry: []policy.Policy{bearer}},
		&policy.ClientOptions{Transport: transporter{s.Base}})
	return &Session{Transport: pipeline{pl}}, nil
}

// A credential is an azcore.TokenCredential over a renewer.
type credential struct {
	renewer *renewer
	setup   Setup
}

func (c credential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	tok, err := c.renewer.token(ctx)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	at := azcore.AccessToken{Token: tok.AccessToken, ExpiresOn: tok.Expiry}
	if c.setup.Lead > 0 {
		at.RefreshOn = tok.Expiry.Add(-c.setup.Lead)
	}
	return at, nil
}

// A transporter sends what comes out of a pipeline.
type transporter struct{ base http.RoundTripper }

func (t transporter) Do(req *http.Request) (*http.Response, error) { return t.base.RoundTrip(req) }

// A pipeline is a RoundTripper. Its policies set headers of the request that
// they are given, which belongs to the caller here.
type pipeline struct{ runtime.Pipeline }

func (p pipeline) RoundTrip(req *http.Request) (*http.Response, error) {
	own := *req
	own.Header = maps.Clone(req.Header)
	r, err := runtime.NewRequestFromRequest(&own)
	if err != nil {
		return nil, err
	}
	return p.Do(r)
}
