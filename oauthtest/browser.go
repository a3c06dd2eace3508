package oauthtest

import (
	"net"
	"net/http"
	"strings"
)

// Browser returns an http.Client that stands for the user's browser: open the
// URL of a login with it. It reaches the server and the hosts of [Server.Handle]
// in memory, and over the network every other address of the loopback interface,
// where programs wait for the answer. It follows redirects, keeps no connection,
// and has no cookies.
//
// In a synctest bubble it works as well. But a goroutine that waits at a socket
// keeps the bubble's time from passing; a program that is to wait there for long
// needs a redirect URI of a host of Handle.
func (s *Server) Browser() *http.Client {
	return &http.Client{Transport: browser{s, s.Transport(), &http.Transport{DisableKeepAlives: true}}}
}

type browser struct {
	s               *Server
	memory, network http.RoundTripper
}

func (b browser) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL != nil && onLoopback(req.URL.Hostname()) {
		if h, _ := b.s.route(req.URL); h == nil {
			return b.network.RoundTrip(req)
		}
	}
	return b.memory.RoundTrip(req)
}

func onLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}
