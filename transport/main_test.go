package transport

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"dems"

	"go.uber.org/goleak"
)

// authority is the folder of one cluster's certificates: nodes n1 to n3 and the front end fe1. Making keys takes a while, so
// tests that change nothing in it share it.
var authority string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "dems-transport-")
	if err != nil {
		panic(err)
	}
	authority = dir
	if err := issueAll(dir); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func issueAll(dir string) error {
	if err := CreateAuthority(dir); err != nil {
		return err
	}
	for _, node := range []string{"n1", "n2", "n3"} {
		if err := Issue(dir, RoleNode, node); err != nil {
			return err
		}
	}
	return Issue(dir, RoleFrontEnd, "fe1")
}

// credentials loads one server's credentials. A name that begins with fe is a front end's.
func credentials(t testing.TB, dir, name string) *Credentials {
	t.Helper()
	role := RoleNode
	if name[:2] == "fe" {
		role = RoleFrontEnd
	}
	loaded, err := LoadCredentials(dir, role, name)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// udp opens a UDP socket on the loopback; "" is a free port.
func udp(t testing.TB, address string) net.PacketConn {
	t.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	return socket
}

// start opens an endpoint that the test closes in the end. What the config does not say is: UDP, certificates of name, and
// timeouts that a machine with much else to do does not reach.
func start(t testing.TB, name string, config Config) *Endpoint {
	t.Helper()
	if config.Credentials == nil {
		config.Credentials = credentials(t, authority, name)
	}
	if config.PacketConn == nil {
		config.PacketConn = udp(t, "")
	}
	if config.DialTimeout == 0 {
		config.DialTimeout = 30 * time.Second
	}
	if config.IdleTimeout == 0 {
		config.IdleTimeout = 30 * time.Second
	}
	endpoint, err := Listen(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endpoint.Close() })
	return endpoint
}

// abort ends an endpoint as a killed process does: no peer is told anything.
func (e *Endpoint) abort() {
	e.transport.Close()
	e.Close()
}

// pair returns an endpoint of n1 that is served by a stub, and the front end's client of it.
func pair(t testing.TB, stub *stub) (*Endpoint, *Replica) {
	t.Helper()
	node := start(t, "n1", Config{})
	node.Serve(stub)
	frontEnd := start(t, "fe1", Config{})
	return node, frontEnd.Replica(node.Addr().String())
}

// stub is a handler whose methods are given; those that are not fail.
type stub struct {
	propose   func(context.Context, []byte) (dems.BatchReply, error)
	forward   func(context.Context, []byte) (dems.BatchReply, error)
	query     func(context.Context, dems.QueryBatch) (dems.QueryReply, error)
	votes     func(context.Context, uint64, func([]dems.Vote) error) error
	results   func(ctx context.Context, session, batch uint64) (dems.BatchReply, error)
	status    func(context.Context) (dems.NodeStatus, error)
	readIndex func(context.Context) (uint64, error)
	cityLog   func(context.Context, dems.City, uint64, int) (dems.CityLogPage, error)
	transfer  func(context.Context, dems.NodeID) error
	report    func(context.Context, dems.Report) error
	suspect   func(context.Context, dems.Suspicion) (dems.Opinion, error)
	stateAt   func(context.Context, uint64) (dems.Digest, error)
	replace   func(context.Context, dems.NodeID) error
	inject    func(context.Context, dems.Fault) error
	backup    func(context.Context, uint64, func(dems.BackupPart) error) error
}

func (s *stub) Propose(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	return s.propose(ctx, entry)
}

func (s *stub) Forward(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	return s.forward(ctx, entry)
}

func (s *stub) Query(ctx context.Context, batch dems.QueryBatch) (dems.QueryReply, error) {
	return s.query(ctx, batch)
}

func (s *stub) Votes(ctx context.Context, session uint64, send func([]dems.Vote) error) error {
	return s.votes(ctx, session, send)
}

func (s *stub) Results(ctx context.Context, session, batch uint64) (dems.BatchReply, error) {
	return s.results(ctx, session, batch)
}

func (s *stub) Status(ctx context.Context) (dems.NodeStatus, error) { return s.status(ctx) }

func (s *stub) ReadIndex(ctx context.Context) (uint64, error) { return s.readIndex(ctx) }

func (s *stub) CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
	return s.cityLog(ctx, city, first, maxBytes)
}

func (s *stub) Transfer(ctx context.Context, to dems.NodeID) error { return s.transfer(ctx, to) }

func (s *stub) Report(ctx context.Context, report dems.Report) error { return s.report(ctx, report) }

func (s *stub) Suspect(ctx context.Context, suspicion dems.Suspicion) (dems.Opinion, error) {
	return s.suspect(ctx, suspicion)
}

func (s *stub) StateAt(ctx context.Context, index uint64) (dems.Digest, error) {
	return s.stateAt(ctx, index)
}

func (s *stub) Replace(ctx context.Context, id dems.NodeID) error { return s.replace(ctx, id) }

func (s *stub) Inject(ctx context.Context, fault dems.Fault) error { return s.inject(ctx, fault) }

func (s *stub) Backup(ctx context.Context, minIndex uint64, send func(dems.BackupPart) error) error {
	return s.backup(ctx, minIndex, send)
}

// echo answers a proposal with what was proposed.
func echo(_ context.Context, entry []byte) (dems.BatchReply, error) {
	return dems.BatchReply{Results: entry}, nil
}

// newRawRequest makes an HTTP request that bypasses the client.
func newRawRequest(ctx context.Context, method, path, contentType, body string) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, "https://node.dems.internal"+path, strings.NewReader(body))
	if err == nil && contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	return request, err
}

// byName is where nodes are in a lab.
func byName(id dems.NodeID) (string, bool) { return string(id), true }
