package faulty

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"dems"
)

// conn is a socket whose datagrams go through a Network. One goroutine reads at a time, as quic-go does; everything else may
// be called concurrently.
type conn struct {
	net.PacketConn
	network *Network
	late    queue // datagrams that have come and are not let through yet; the reader's

	mu       sync.Mutex
	deadline time.Time // for reading, as SetReadDeadline was told
	alarm    time.Time // when the reader looks at what is late; zero: not at all. The reader may read it without the mutex
}

var _ net.PacketConn = (*conn)(nil)

// Conn returns the socket as it is on this network. Whatever else the socket can do is hidden where datagrams could get past
// the faults by it.
func (n *Network) Conn() net.PacketConn {
	c := &conn{PacketConn: n.socket, network: n}
	if udp, ok := n.socket.(*net.UDPConn); ok {
		return withMessages(c, udp)
	}
	return c
}

// outgoing tells whether the caller is to send a datagram now. Otherwise it is lost, or is kept to be sent later.
func (c *conn) outgoing(data, control []byte, to net.Addr) bool {
	r := c.network.rules.Load()
	if r == nil {
		return true
	}
	lost, delay := r.fate(dems.Outgoing, to)
	if lost || delay == 0 {
		return !lost
	}
	c.network.late.add(datagram{
		at: time.Now().Add(delay), address: to, data: slices.Clone(data), control: slices.Clone(control),
	})
	return false
}

// incoming tells whether a datagram that has come is let through now. Otherwise it is lost, or is kept for later.
func (c *conn) incoming(r *rules, data, control []byte, flags int, from net.Addr) bool {
	lost, delay := r.fate(dems.Incoming, from)
	if lost || delay == 0 {
		return !lost
	}
	c.late.add(datagram{
		at: time.Now().Add(delay), address: from, data: slices.Clone(data), control: slices.Clone(control), flags: flags,
	})
	return false
}

// WriteTo implements net.PacketConn. A datagram that is lost on the way is no error.
func (c *conn) WriteTo(data []byte, to net.Addr) (int, error) {
	if !c.outgoing(data, nil, to) {
		return len(data), nil
	}
	return c.PacketConn.WriteTo(data, to)
}

// ReadFrom implements net.PacketConn.
func (c *conn) ReadFrom(data []byte) (int, net.Addr, error) {
	for {
		if d, ok := c.late.take(time.Now()); ok {
			return copy(data, d.data), d.address, nil
		}
		if err := c.setAlarm(); err != nil {
			return 0, nil, err
		}
		size, from, err := c.PacketConn.ReadFrom(data)
		if err != nil {
			if c.rang(err) {
				continue
			}
			return size, from, err
		}
		if r := c.network.rules.Load(); r == nil || c.incoming(r, data[:size], nil, 0, from) {
			return size, from, nil
		}
	}
}

// setAlarm has the next read of the socket end when the next late datagram is due.
func (c *conn) setAlarm() error {
	next := c.late.next()
	if next.Equal(c.alarm) {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm = next
	return c.PacketConn.SetReadDeadline(earlier(c.deadline, c.alarm))
}

// rang tells whether a read ended because of the alarm only: it is to go on.
func (c *conn) rang(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.alarm.IsZero() && (c.deadline.IsZero() || time.Now().Before(c.deadline))
}

// SetReadDeadline implements net.PacketConn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.PacketConn.SetReadDeadline(earlier(c.deadline, c.alarm))
}

// SetDeadline implements net.PacketConn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// earlier returns the earlier of two times, of which a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
