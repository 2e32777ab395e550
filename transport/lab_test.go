package transport

import (
	"net"
	"testing"
	"testing/synctest"

	"dems/internal/faultnet"
)

// lab is a faulty network in virtual time, with certificates of its own since its clock has another date.
type lab struct {
	t       *testing.T
	network *faultnet.Network
	pki     string
}

// inLab runs a test in a bubble. Endpoints are closed in the end; anything else that still runs then fails the test.
func inLab(t *testing.T, test func(t *testing.T, lab *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, network: faultnet.New(1), pki: t.TempDir()}
		t.Cleanup(func() { l.network.Close() })
		if err := issueAll(l.pki); err != nil {
			t.Fatal(err)
		}
		test(t, l)
	})
}

func (l *lab) socket(address string) net.PacketConn {
	l.t.Helper()
	socket, err := l.network.Listen(address)
	if err != nil {
		l.t.Fatal(err)
	}
	return socket
}

// start opens an endpoint whose address is its name, and which finds every node under its name.
func (l *lab) start(name string, config Config) *Endpoint {
	l.t.Helper()
	if config.Credentials == nil {
		config.Credentials = credentials(l.t, l.pki, name)
	}
	config.PacketConn = l.socket(name)
	config.Resolve = byName
	endpoint, err := Listen(config)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { endpoint.Close() })
	return endpoint
}
