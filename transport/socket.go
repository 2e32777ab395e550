package transport

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/quic-go/quic-go"
)

// socketBuffer is how large the socket's buffers should be, in bytes: what arrives while this process does not run is
// lost beyond it, and lost packets cost latency.
const socketBuffer = 7 << 20

var warnSmallBuffer sync.Once

// prepareSocket enlarges the socket's buffers as far as the system lets it, and says so once where it does not. quic-go
// tries the same and would print a warning of its own to the standard logger; its documented switch turns that off.
func prepareSocket(socket net.PacketConn, logger *slog.Logger) {
	if _, set := os.LookupEnv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING"); !set {
		os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	}
	udp, ok := socket.(*net.UDPConn)
	if !ok {
		return
	}
	udp.SetReadBuffer(socketBuffer)
	udp.SetWriteBuffer(socketBuffer)
	size, known := enlargeReadBuffer(udp, socketBuffer)
	if known && size < socketBuffer {
		warnSmallBuffer.Do(func() {
			logger.Warn("the UDP receive buffer is small, so bursts may lose packets and cost latency; to enlarge it: sysctl -w net.core.rmem_max="+
				strconv.Itoa(socketBuffer)+" net.core.wmem_max="+strconv.Itoa(socketBuffer),
				slog.Int("bytes", size), slog.Int("wanted", socketBuffer))
		})
	}
}

// addressResolver is what a PacketConn that is no UDP socket has to turn addresses into its own.
type addressResolver interface {
	ResolveAddr(address string) (net.Addr, error)
}

// resolveAddress turns HOST:PORT into an address of the socket's kind. IPv4 is preferred where a name has both.
func resolveAddress(ctx context.Context, socket net.PacketConn, address string) (net.Addr, error) {
	all, err := resolveAll(ctx, socket, address)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		if udp, ok := one.(*net.UDPAddr); ok && udp.IP.To4() != nil {
			return one, nil
		}
	}
	return all[0], nil
}

// newResolver returns a resolver like the standard one, but for two things. It shares no lookup with any other: one that was begun while
// the network was gone waits for seconds until it asks again, and who shared it would wait with it after the network is back. And what is
// left of a lookup by Go's own resolver, which containers use, ends with its context (by itself it waits for its answer in vain).
func newResolver() *net.Resolver {
	standard := net.DefaultResolver
	dial := standard.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &net.Resolver{
		PreferGo: standard.PreferGo, StrictErrors: standard.StrictErrors,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			connection, err := dial(ctx, network, address)
			if err == nil {
				context.AfterFunc(ctx, func() { connection.Close() })
			}
			return connection, err
		},
	}
}

// resolveAll turns HOST:PORT into every address of the socket's kind that it stands for, at least one.
func resolveAll(ctx context.Context, socket net.PacketConn, address string) ([]net.Addr, error) {
	if resolver, ok := socket.(addressResolver); ok {
		one, err := resolver.ResolveAddr(address)
		return []net.Addr{one}, err
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("address %q: a port is a number from 0 to 65535", address)
	}
	found, err := newResolver().LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("address %q: the host has no IP address", address)
	}
	all := make([]net.Addr, len(found))
	for i, ip := range found {
		all[i] = net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return all, nil
}

// loadResetKey reads the stateless-reset key, or makes it where the file is absent.
func loadResetKey(path string) (*quic.StatelessResetKey, error) {
	key := new(quic.StatelessResetKey)
	rand.Read(key[:]) // never fails
	if path == "" {
		return key, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := writeNew(path, 0o600, key[:]); err != nil {
			return nil, fmt.Errorf("make the stateless-reset key: %w", err)
		}
		return key, syncDirectory(filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("read the stateless-reset key: %w", err)
	}
	if len(data) != len(key) {
		return nil, fmt.Errorf("the stateless-reset key %s has %d bytes, not %d: remove it, a new one is made", path, len(data), len(key))
	}
	copy(key[:], data)
	return key, nil
}
