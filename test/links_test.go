//go:build linux

package test

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

const (
	// mostPacketBytes is the largest packet that UDP carries.
	mostPacketBytes = 65535
	// mostCallers bounds the processes that one link has seen; each start of one is another.
	mostCallers = 1024
)

// links are the lines between the processes of a cluster. Every node is known to all by the address of its line, which passes
// packets on to it and the answers back, and knows a node that calls by the address that it calls from. So each direction
// between two processes can be cut for itself, and all processes still have the same addresses for the same nodes.
type links struct {
	lines map[string]*line // by the node that they lead to
	names map[netip.AddrPort]string

	mu  sync.Mutex
	cut map[[2]string]bool // packets from the first to the second are lost
}

// newLinks returns lines to nodes, which listen at these addresses. Whoever else calls is taken for the front end.
func newLinks(t *testing.T, addresses map[string]string) *links {
	t.Helper()
	l := &links{lines: map[string]*line{}, names: map[netip.AddrPort]string{}, cut: map[[2]string]bool{}}
	t.Cleanup(l.close)
	for name, address := range addresses {
		l.names[netip.MustParseAddrPort(address)] = name
	}
	for name, address := range addresses {
		var err error
		if l.lines[name], err = l.newLine(name, address); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// address returns where everybody reaches a node.
func (l *links) address(to string) string { return l.lines[to].socket.LocalAddr().String() }

// lose loses every packet from one process to another, until heal.
func (l *links) lose(from, to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[[2]string{from, to}] = true
}

// isolate cuts a process off from others, in both directions.
func (l *links) isolate(name string, others []string) {
	for _, other := range others {
		l.lose(name, other)
		l.lose(other, name)
	}
}

// heal makes all lines whole.
func (l *links) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.cut)
}

func (l *links) loses(from, to string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut[[2]string{from, to}]
}

func (l *links) close() {
	for _, line := range l.lines {
		line.close()
	}
}

// line passes packets on from whoever calls its address to one node, and the answers back.
type line struct {
	links   *links
	name    string
	socket  *net.UDPConn
	called  *net.UDPAddr
	running sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	callers map[netip.AddrPort]*caller
}

// caller is a process that calls a node. The node takes its socket for the process.
type caller struct {
	name   string
	socket *net.UDPConn
}

func (l *links) newLine(name, called string) (*line, error) {
	address, err := net.ResolveUDPAddr("udp", called)
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	opened := &line{links: l, name: name, socket: socket, called: address, callers: map[netip.AddrPort]*caller{}}
	opened.running.Go(opened.passThere)
	return opened, nil
}

func (l *line) close() {
	l.mu.Lock()
	l.closed = true
	_ = l.socket.Close() // wakes whoever reads
	for _, c := range l.callers {
		_ = c.socket.Close()
	}
	l.mu.Unlock()
	l.running.Wait()
}

// passThere passes on what callers send.
func (l *line) passThere() {
	packet := make([]byte, mostPacketBytes)
	for {
		size, from, err := l.socket.ReadFromUDPAddrPort(packet)
		if err != nil {
			return
		}
		if c := l.caller(from); c != nil && !l.links.loses(c.name, l.name) {
			_, _ = c.socket.Write(packet[:size]) // the node may be dead: then packets are lost
		}
	}
}

// caller returns who calls from an address, nil when there are too many.
func (l *line) caller(from netip.AddrPort) *caller {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.callers[from]; c != nil || l.closed || len(l.callers) == mostCallers {
		return c
	}
	socket, err := net.DialUDP("udp", nil, l.called)
	if err != nil {
		return nil
	}
	c := &caller{name: l.links.names[from], socket: socket}
	if c.name == "" {
		c.name = "fe1"
	}
	l.callers[from] = c
	l.running.Go(func() { l.passBack(c, from) })
	return c
}

// passBack passes on what the node answers to one caller.
func (l *line) passBack(c *caller, to netip.AddrPort) {
	packet := make([]byte, mostPacketBytes)
	for {
		size, err := c.socket.Read(packet)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && !l.links.loses(l.name, c.name) { // else the node is dead, and the kernel said so
			_, _ = l.socket.WriteToUDPAddrPort(packet[:size], to)
		}
	}
}

// TestLinks sends packets between a front end and a node over a line that is cut in one direction, then in the other, then
// in both.
func TestLinks(t *testing.T) {
	t.Parallel()
	called, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer called.Close()
	l := newLinks(t, map[string]string{"n1": called.LocalAddr().String()})
	calling, err := net.Dial("udp", l.address("n1"))
	if err != nil {
		t.Fatal(err)
	}
	defer calling.Close()
	packet := make([]byte, 16)
	const patience = 200 * time.Millisecond // for a packet that does not come
	var from *net.UDPAddr
	there := func() bool {
		if _, err := calling.Write([]byte("there")); err != nil {
			t.Fatal(err)
		}
		_ = called.SetReadDeadline(time.Now().Add(patience))
		_, sender, err := called.ReadFromUDP(packet)
		if err == nil {
			from = sender
		}
		return err == nil
	}
	back := func() bool {
		if _, err := called.WriteToUDP([]byte("back"), from); err != nil {
			t.Fatal(err)
		}
		_ = calling.SetReadDeadline(time.Now().Add(patience))
		_, err := calling.Read(packet)
		return err == nil
	}
	for _, test := range []struct {
		what        string
		cut         func()
		there, back bool
	}{
		{"whole", func() {}, true, true},
		{"cut there", func() { l.lose("fe1", "n1") }, false, true},
		{"cut back", func() { l.lose("n1", "fe1") }, true, false},
		{"isolated", func() { l.isolate("n1", []string{"n2", "fe1"}) }, false, false},
		{"others isolated", func() { l.isolate("n2", []string{"n1", "fe1"}) }, true, true},
	} {
		test.cut()
		if gotThere, gotBack := there(), back(); gotThere != test.there || gotBack != test.back {
			t.Errorf("%s: arrives there %t, back %t; want %t, %t", test.what, gotThere, gotBack, test.there, test.back)
		}
		l.heal()
	}
}
