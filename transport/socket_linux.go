package transport

import (
	"net"
	"syscall"
)

// enlargeReadBuffer tries to go beyond the system's limit, which the superuser may, and returns the size reached.
func enlargeReadBuffer(udp *net.UDPConn, bytes int) (size int, known bool) {
	raw, err := udp.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(descriptor uintptr) {
		read := func() bool {
			var err error
			size, err = syscall.GetsockoptInt(int(descriptor), syscall.SOL_SOCKET, syscall.SO_RCVBUF)
			return err == nil
		}
		if known = read(); known && size < bytes {
			_ = syscall.SetsockoptInt(int(descriptor), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, bytes)
			_ = syscall.SetsockoptInt(int(descriptor), syscall.SOL_SOCKET, syscall.SO_SNDBUFFORCE, bytes)
			known = read()
		}
	})
	return size, known && err == nil
}
