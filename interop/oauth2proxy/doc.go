// Package oauth2proxy pins the oauth2-proxy that the tests in .. put before an
// API. It has no code: see go.mod.
package oauth2proxy
