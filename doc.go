// Package freshtoken keeps one OAuth 2.0 session alive for a Go program.
package freshtoken
