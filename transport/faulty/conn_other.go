//go:build !linux

package faulty

import "net"

// withMessages is for Linux; elsewhere a socket with faults reads and sends one datagram at a time.
func withMessages(c *conn, _ *net.UDPConn) net.PacketConn { return c }

// transmit sends a datagram that was late. It may get lost: nobody waits for an error any more.
func (n *Network) transmit(d datagram) { _, _ = n.socket.WriteTo(d.data, d.address) }
