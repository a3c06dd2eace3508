// Package faultproxy is a TCP proxy for tests that breaks connections, to the
// byte.
package faultproxy

import (
	"io"
	"net"
	"sync"
	"testing"
)

// An Action is what happens to a connection at the byte of a Plan.
type Action string

// What can happen, once there is a byte after those of the plan. The server's
// side is closed in an orderly way; the client learns of a close and of a reset
// once the server has closed, so that it is settled by then what the server has
// got.
const (
	None      Action = ""
	Close     Action = "close"      // the connection is closed
	Reset     Action = "reset"      // and the client gets a RST; what it has not read yet is lost
	HalfClose Action = "half-close" // one direction is closed, the other goes on
	Stall     Action = "stall"      // nothing goes on in either direction, and nothing is closed
	Duplicate Action = "duplicate"  // the next byte comes twice, and the connection is closed after what came with it
)

// A Plan is about one connection.
type Plan struct {
	Do       Action
	Response bool // the direction: from the server to the client
	At       int  // after so many bytes of that direction
}

// A Proxy relays connections from its address to a server's.
type Proxy struct {
	Addr string

	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	closed  bool
	plan    Plan // of the next connection
	open    map[net.Conn]bool
	last    *link
	stalled chan struct{}
}

// New starts a proxy on a port of 127.0.0.1. It ends with the test.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), listener: l, target: target, open: map[net.Conn]bool{}}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Next sets what happens to the next connection; those after it are relayed.
// The channel is closed when a plan to stall has been carried out.
func (p *Proxy) Next(plan Plan) (stalled <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.last, p.stalled = plan, nil, make(chan struct{})
	return p.stalled
}

// Bytes tells how much has come from either end of the connection of the last
// plan, and whether that was carried out.
func (p *Proxy) Bytes() (request, response int, carriedOut bool) {
	p.mu.Lock()
	k := p.last
	p.mu.Unlock()
	if k == nil {
		return 0, 0, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.request, k.response, k.cut
}

// Wait waits until the connection of the last plan is over on both sides. It
// returns at once if there was none.
func (p *Proxy) Wait() {
	p.mu.Lock()
	k := p.last
	p.mu.Unlock()
	if k != nil {
		<-k.done
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		k := &link{client: client.(*net.TCPConn), server: server.(*net.TCPConn), done: make(chan struct{})}
		p.mu.Lock()
		if p.closed {
			client.Close()
			server.Close()
			p.mu.Unlock()
			return
		}
		k.plan, k.stalled, p.plan = p.plan, p.stalled, Plan{}
		if p.last == nil {
			p.last = k
		}
		p.open[client], p.open[server] = true, true
		p.mu.Unlock()
		p.running.Go(func() {
			k.run()
			p.forget(client, server)
		})
	}
}

// close ends the proxy and waits for its goroutines.
func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for conn := range p.open {
		conn.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
		delete(p.open, conn)
	}
}

// A link is one connection, which is two.
type link struct {
	client, server *net.TCPConn
	plan           Plan
	stalled        chan struct{}
	done           chan struct{} // closed when both are over

	mu                sync.Mutex // guards what follows
	request, response int        // bytes that came
	cut               bool       // the plan has been carried out
}

func (k *link) run() {
	defer close(k.done)
	var both sync.WaitGroup
	both.Go(func() {
		k.relay(false, k.client, k.server)
		k.server.CloseWrite()
		io.Copy(io.Discard, k.client)
	})
	both.Go(func() {
		k.relay(true, k.server, k.client)
		if k.isCut() && k.plan.Do == HalfClose {
			k.client.CloseWrite()
		}
		if k.isCut() && k.plan.Do != HalfClose && k.plan.Do != Stall {
			k.server.CloseWrite()
		}
		io.Copy(io.Discard, k.server) // when the server has closed, it is settled what it has got
		switch {
		case k.isCut() && k.plan.Do == Stall:
		case k.isCut() && k.plan.Do == Reset:
			k.client.SetLinger(0)
			k.client.Close()
		default:
			k.client.CloseWrite()
		}
	})
	both.Wait()
}

// relay takes one direction to its end, or to the byte of the plan.
func (k *link) relay(response bool, from, to *net.TCPConn) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		pass, on := k.pass(response, buf[:n])
		to.Write(pass) // who does not listen any more closes the other direction, too
		if err != nil || !on {
			return
		}
	}
}

// pass notes what has come from one end, and returns what the other end gets of
// it, and whether the direction goes on.
func (k *link) pass(response bool, data []byte) (pass []byte, on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	count := &k.request
	if response {
		count = &k.response
	}
	before := *count
	*count += len(data)
	if k.cut && k.plan.Do != HalfClose {
		return nil, true // in the other direction
	}
	left := k.plan.At - before
	if k.cut || k.plan.Do == None || k.plan.Response != response || left < 0 || left >= len(data) {
		return data, true
	}
	k.cut = true
	switch k.plan.Do {
	case Duplicate:
		return append(append([]byte{}, data[:left+1]...), data[left:]...), false
	case Stall:
		close(k.stalled)
		return data[:left], true
	}
	return data[:left], false
}

func (k *link) isCut() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cut
}
