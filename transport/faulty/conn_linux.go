package faulty

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// messageConn is a conn that can do what quic-go is fast by: read many datagrams with one call of the kernel, and send many
// with one, which the kernel divides.
type messageConn struct {
	*conn
	udp   *net.UDPConn
	batch *ipv4.PacketConn
}

func withMessages(c *conn, udp *net.UDPConn) net.PacketConn {
	return &messageConn{conn: c, udp: udp, batch: ipv4.NewPacketConn(udp)}
}

// transmit sends a datagram that was late. It may get lost: nobody waits for an error any more.
func (n *Network) transmit(d datagram) {
	if udp, ok := n.socket.(*net.UDPConn); ok {
		to, _ := d.address.(*net.UDPAddr)
		_, _, _ = udp.WriteMsgUDP(d.data, d.control, to)
		return
	}
	_, _ = n.socket.WriteTo(d.data, d.address)
}

// WriteMsgUDP is that of net.UDPConn. A datagram that is lost on the way is no error.
func (c *messageConn) WriteMsgUDP(data, control []byte, to *net.UDPAddr) (size, controlSize int, err error) {
	if c.network.rules.Load() != nil && !c.outgoing(data, control, to) {
		return len(data), len(control), nil
	}
	return c.udp.WriteMsgUDP(data, control, to)
}

// ReadBatch is that of ipv4.PacketConn: it returns at least one message, or an error.
func (c *messageConn) ReadBatch(messages []ipv4.Message, flags int) (int, error) {
	for {
		if count := c.takeLate(messages); count > 0 {
			return count, nil
		}
		if err := c.setAlarm(); err != nil {
			return 0, err
		}
		count, err := c.batch.ReadBatch(messages, flags)
		if err != nil {
			if c.rang(err) {
				continue
			}
			return count, err
		}
		if r := c.network.rules.Load(); r != nil {
			count = c.sift(r, messages[:count])
		}
		if count > 0 {
			return count, nil
		}
	}
}

// takeLate fills messages with late datagrams that are due.
func (c *messageConn) takeLate(messages []ipv4.Message) int {
	if c.late.Len() == 0 {
		return 0
	}
	count, now := 0, time.Now()
	for count < len(messages) {
		d, ok := c.late.take(now)
		if !ok {
			break
		}
		fill(&messages[count], d.data, d.control, d.flags, d.address)
		count++
	}
	return count
}

// sift keeps the messages that are let through now, in front, and returns how many they are. Their buffers stay where they
// are, for the caller knows each by its place.
func (c *messageConn) sift(r *rules, messages []ipv4.Message) int {
	kept := 0
	for i := range messages {
		m := &messages[i]
		data, control := m.Buffers[0][:m.N], m.OOB[:m.NN]
		if !c.incoming(r, data, control, m.Flags, m.Addr) {
			continue
		}
		if kept < i {
			fill(&messages[kept], data, control, m.Flags, m.Addr)
		}
		kept++
	}
	return kept
}

// fill writes a datagram into a message as the kernel would: what does not fit is cut off.
func fill(m *ipv4.Message, data, control []byte, flags int, address net.Addr) {
	m.N, m.NN = copy(m.Buffers[0], data), copy(m.OOB, control)
	m.Flags, m.Addr = flags, address
}

// ReadMsgUDP is there because quic-go wants it beside ReadBatch, and uses that.
func (c *messageConn) ReadMsgUDP(data, control []byte) (size, controlSize, flags int, from *net.UDPAddr, err error) {
	return 0, 0, 0, nil, errors.ErrUnsupported
}

// SyscallConn is that of net.UDPConn, for the socket's options.
func (c *messageConn) SyscallConn() (syscall.RawConn, error) { return c.udp.SyscallConn() }

// SetReadBuffer is that of net.UDPConn.
func (c *messageConn) SetReadBuffer(bytes int) error { return c.udp.SetReadBuffer(bytes) }

// SetWriteBuffer is that of net.UDPConn.
func (c *messageConn) SetWriteBuffer(bytes int) error { return c.udp.SetWriteBuffer(bytes) }
