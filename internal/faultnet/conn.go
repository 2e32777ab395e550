package faultnet

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// Addr is an address on a Network, for example n1:7000.
type Addr string

// Network implements net.Addr.
func (Addr) Network() string { return "faultnet" }

// String implements net.Addr.
func (a Addr) String() string { return string(a) }

// Conn is a socket on a Network. It implements net.PacketConn; as with UDP, a packet sent to nobody is no error.
type Conn struct {
	network *Network
	address Addr
	queue   chan packet
	closed  chan struct{}
	closing sync.Once

	mutex    sync.Mutex
	deadline time.Time
	changed  chan struct{} // closed when the deadline changes
}

var _ net.PacketConn = (*Conn)(nil)

func newConn(network *Network, address Addr) *Conn {
	return &Conn{
		network: network, address: address, queue: make(chan packet, queuePackets),
		closed: make(chan struct{}), changed: make(chan struct{}),
	}
}

// put queues a packet for ReadFrom; false: the queue is full.
func (c *Conn) put(arriving packet) bool {
	select {
	case c.queue <- arriving:
		return true
	default:
		return false
	}
}

// ReadFrom implements net.PacketConn.
func (c *Conn) ReadFrom(data []byte) (int, net.Addr, error) {
	for {
		select {
		case <-c.closed:
			return 0, nil, c.failure("read", net.ErrClosed)
		default:
		}
		c.mutex.Lock()
		deadline, changed := c.deadline, c.changed
		c.mutex.Unlock()
		var expired <-chan time.Time
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return 0, nil, c.failure("read", os.ErrDeadlineExceeded)
			}
			expired = time.After(left)
		}
		select {
		case arrived := <-c.queue:
			return copy(data, arrived.data), arrived.from, nil
		case <-expired:
		case <-changed:
		case <-c.closed:
		}
	}
}

// WriteTo implements net.PacketConn. It never blocks.
func (c *Conn) WriteTo(data []byte, to net.Addr) (int, error) {
	select {
	case <-c.closed:
		return 0, c.failure("write", net.ErrClosed)
	default:
	}
	if len(data) > maxPacketBytes {
		return 0, c.failure("write", errors.New("message too long"))
	}
	c.network.send(c.address, to.String(), data)
	return len(data), nil
}

// ResolveAddr returns the address with that text, whether anybody listens there or not.
func (c *Conn) ResolveAddr(address string) (net.Addr, error) { return Addr(address), nil }

// LocalAddr implements net.PacketConn.
func (c *Conn) LocalAddr() net.Addr { return c.address }

// Close implements net.PacketConn. The address is free afterwards.
func (c *Conn) Close() error {
	err := c.failure("close", net.ErrClosed)
	c.closing.Do(func() {
		close(c.closed)
		c.network.mutex.Lock()
		if c.network.sockets[string(c.address)] == c {
			delete(c.network.sockets, string(c.address))
		}
		c.network.mutex.Unlock()
		err = nil
	})
	return err
}

// SetDeadline implements net.PacketConn.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.deadline = t
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

// SetWriteDeadline implements net.PacketConn. Writes never block.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer accepts any size, as a UDP socket would, and keeps its own.
func (c *Conn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer accepts any size, as a UDP socket would, and keeps its own.
func (c *Conn) SetWriteBuffer(int) error { return nil }

func (c *Conn) failure(operation string, cause error) error {
	return &net.OpError{Op: operation, Net: c.address.Network(), Source: c.address, Err: cause}
}
