// Package oauthtest is a strict OAuth 2.0 authorization server, and an API that
// trusts it, for tests of OAuth clients.
package oauthtest
