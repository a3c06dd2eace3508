package oauthtest

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/internal/mark"
)

// deviceGrant is the grant type of a poll (RFC 8628, section 3.4).
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// A deviceLogin is a login whose user sits before another device.
type deviceLogin struct {
	client string
	approval
	decision Outcome // AuthorizationPending, Granted or Denied
	form     url.Values
	expires  time.Time
	interval time.Duration
	polled   time.Time // the last poll; zero before the first
	fam      *family   // nil until the login has succeeded
}

// ApproveDevice stands for the user who enters the user code of a device login
// and approves as this subject; without scopes, what was asked for is granted.
// The code is read without regard to case and to what is no letter. ApproveDevice
// reports whether a login was waiting under this code.
func (s *Server) ApproveDevice(userCode, subject string, scopes ...string) bool {
	return s.decideDevice(userCode, Granted, approval{subject: subject, scopes: slices.Clone(scopes)})
}

// DenyDevice is ApproveDevice for a user who does not approve.
func (s *Server) DenyDevice(userCode string) bool {
	return s.decideDevice(userCode, Denied, approval{})
}

func (s *Server) decideDevice(userCode string, decision Outcome, by approval) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.byUser[canonicalCode(userCode)]
	if d == nil || d.decision != AuthorizationPending || !time.Now().Before(d.expires) {
		return false
	}
	if by.scopes == nil {
		by.scopes = d.scopes
	}
	by.resources = d.resources
	d.decision, d.approval = decision, by
	return true
}

// canonicalCode is a user code as users need not type it (RFC 8628, section
// 6.1).
func canonicalCode(userCode string) string {
	return strings.Map(func(r rune) rune {
		if r < 'A' || r > 'Z' {
			return -1
		}
		return r
	}, strings.ToUpper(userCode))
}

// device answers a request at the device authorization endpoint (RFC 8628,
// section 3.1).
func (c *call) device() Answer {
	form, a, ok := c.form()
	if !ok {
		return a
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := c.authenticate(form); !ok {
		return a
	}
	scopes, detail := s.opt.scopes(form)
	if detail != "" {
		return c.badScope(detail)
	}
	resources, detail := s.opt.resources(form)
	if detail != "" {
		return c.badTarget(detail)
	}
	d := &deviceLogin{
		client: c.client, approval: approval{scopes: scopes, resources: resources}, form: form,
		decision: AuthorizationPending,
		expires:  time.Now().Add(s.opt.DeviceLifetime),
		interval: s.opt.PollInterval,
	}
	deviceCode, userCode := "device-"+mark.New(mark.DeviceCode), newUserCode()
	s.devices[deviceCode], s.byUser[canonicalCode(userCode)] = d, d
	c.entry.IssuedCode = Fingerprint(deviceCode)
	c.granted(scopes, resources)
	c.decide(CodeIssued)

	var m Members
	m.Add("device_code", deviceCode)
	m.Add("user_code", userCode)
	m.Add("verification_uri", s.base+"/login")
	m.Add("verification_uri_complete", s.base+"/login?user_code="+userCode)
	m.Add("expires_in", int64(s.opt.DeviceLifetime/time.Second))
	m.Add("interval", int64((s.opt.PollInterval+time.Second-1)/time.Second))
	return newAnswer(http.StatusOK, m)
}

// newUserCode makes a code of the alphabet that RFC 8628, section 6.1,
// recommends.
func newUserCode() string {
	const alphabet = "BCDFGHJKLMNPQRSTVWXZ"
	var b [8]byte
	rand.Read(b[:]) // never fails
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b[:4]) + "-" + string(b[4:])
}

// grantDevice answers a poll (RFC 8628, section 3.5). It is called with s.mu
// held.
func (c *call) grantDevice(form url.Values) Answer {
	s := c.s
	if !form.Has("device_code") {
		return c.badRequest("device_code is missing")
	}
	d := s.devices[form.Get("device_code")]
	if d == nil {
		return c.invalidGrant(UnknownToken, "The device code is not known.")
	}
	c.entry.Subject = d.subject
	if d.client != c.client {
		c.entry.Detail = "the device code was issued to another client"
		return c.invalidGrant(Mismatch, c.entry.Detail)
	}
	resources, detail := s.opt.resourcesOf(form, d.resources)
	if detail != "" && d.fam == nil { // a code that was used is reuse, whatever else
		return c.badTarget(detail)
	}
	s.stats.Polls++
	soon := d.poll(c.entry.Arrived)
	switch {
	case d.fam != nil:
		return c.codeReuse(d.fam)
	case !time.Now().Before(d.expires):
		return c.pollError(Expired, "expired_token")
	case soon:
		d.interval += 5 * time.Second // for this and all that follow
		s.stats.SlowDowns++
		return c.pollError(SlowDown, "slow_down")
	case d.decision == AuthorizationPending:
		return c.pollError(AuthorizationPending, "authorization_pending")
	case d.decision == Denied:
		return c.pollError(Denied, "access_denied")
	}
	s.stats.DeviceLogins++
	a := Answer{}
	d.fam, a = c.begin(d.client, d.approval, resources, s.opt.offline(d.form, d.scopes), "")
	return a
}

// poll notes when a poll arrived, and reports whether that was too soon after
// another one. Polls are processed in any order, and count by their arrival:
// one that a fault held until its client had given up must not make the next
// one an early one.
func (d *deviceLogin) poll(arrived time.Time) (soon bool) {
	soon = !d.polled.IsZero() && arrived.Sub(d.polled).Abs() < d.interval
	if arrived.After(d.polled) {
		d.polled = arrived
	}
	return soon
}

func (c *call) pollError(o Outcome, code string) Answer {
	c.decide(o)
	return errorAnswer(http.StatusBadRequest, code, "")
}
