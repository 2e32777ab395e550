package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dems"
	"dems/transport"
)

// statusOnly is a node that tells of itself and does nothing else.
type statusOnly struct {
	transport.Handler
	status func() (dems.NodeStatus, error)
}

func (s statusOnly) Status(context.Context) (dems.NodeStatus, error) { return s.status() }

// serveStatus runs an endpoint of node n1 that answers with status, and returns its address and its certificates' folder.
func serveStatus(t *testing.T, status func() (dems.NodeStatus, error)) (address, pkiDir string) {
	t.Helper()
	authority, pkiDir := pkiFolders(t)
	makeAll(t, authority, pkiDir)
	credentials, err := transport.LoadCredentials(pkiDir, transport.RoleNode, "n1")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := transport.Listen(transport.Config{Credentials: credentials, PacketConn: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := endpoint.Close(); err != nil {
			t.Error(err)
		}
	})
	endpoint.Serve(statusOnly{status: status})
	return socket.LocalAddr().String(), pkiDir
}

func TestHealthOfNode(t *testing.T) {
	for name, test := range map[string]struct {
		status     dems.NodeStatus
		err        error
		exit       int
		said, fail string
	}{
		"well":       {dems.NodeStatus{ID: "n1", Incarnation: 2, Ready: true, Applied: 7}, nil, statusDone, "n1 is well: incarnation 2, applied 7\n", ""},
		"late":       {dems.NodeStatus{ID: "n1", Incarnation: 2, Applied: 7}, nil, statusFailed, "", "n1 has not caught up yet: it has applied log entry 7"},
		"in trouble": {dems.NodeStatus{}, errors.New("the disk burns"), statusFailed, "", "the disk burns"},
	} {
		t.Run(name, func(t *testing.T) {
			address, pkiDir := serveStatus(t, func() (dems.NodeStatus, error) { return test.status, test.err })
			status, stdout, stderr := runDemsd(t, "health", "node", "--id", "n1", "--listen", address, "--pki-dir", pkiDir)
			if status != test.exit || stdout != test.said || !strings.Contains(stderr, test.fail) {
				t.Errorf("status %d, said %q and %q", status, stdout, stderr)
			}
		})
	}
}

// TestHealthIsOfThisNode shows that another node at the address does not count, even one of the same cluster.
func TestHealthIsOfThisNode(t *testing.T) {
	address, pkiDir := serveStatus(t, func() (dems.NodeStatus, error) { return dems.NodeStatus{ID: "n1", Ready: true}, nil })
	if status, _, stderr := runDemsd(t, "health", "node", "--id", "n2", "--listen", address, "--pki-dir", pkiDir); status != statusFailed ||
		!strings.Contains(stderr, "n2 does not answer") {
		t.Errorf("status %d, said %q", status, stderr)
	}
}

func TestHealthTakesTheServersEnvironment(t *testing.T) {
	address, pkiDir := serveStatus(t, func() (dems.NodeStatus, error) { return dems.NodeStatus{ID: "n1", Ready: true}, nil })
	for name, value := range map[string]string{"ID": "n1", "LISTEN": address, "PKI_DIR": pkiDir} {
		t.Setenv("DEMSD_"+name, value)
	}
	if status, _, stderr := runDemsd(t, "health", "node"); status != statusDone {
		t.Errorf("status %d, said %q", status, stderr)
	}
}

// TestHealthWaits shows that --wait goes on asking until the server is well, and not longer than that.
func TestHealthWaits(t *testing.T) {
	var asked atomic.Int64
	address, pkiDir := serveStatus(t, func() (dems.NodeStatus, error) {
		return dems.NodeStatus{ID: "n1", Ready: asked.Add(1) > 3}, nil
	})
	status, _, stderr := runDemsd(t, "health", "node", "--id", "n1", "--listen", address, "--pki-dir", pkiDir, "--wait", time.Minute.String())
	if status != statusDone || asked.Load() != 4 {
		t.Errorf("status %d after %d questions, said %q", status, asked.Load(), stderr)
	}
	asked.Store(-1 << 40)
	status, _, stderr = runDemsd(t, "health", "node", "--id", "n1", "--listen", address, "--pki-dir", pkiDir, "--wait", "250ms")
	if status != statusFailed || !strings.Contains(stderr, "not well within 250ms") || !strings.Contains(stderr, "not caught up") {
		t.Errorf("status %d, said %q", status, stderr)
	}
	if more := asked.Load() + 1<<40; more < 2 {
		t.Errorf("asked %d times", more)
	}
}

func TestHealthOfFrontEnd(t *testing.T) {
	for name, test := range map[string]struct {
		code       int
		body       string
		exit       int
		said, fail string
	}{
		"ready":     {http.StatusOK, "ok", statusDone, "the front end is ready\n", ""},
		"not ready": {http.StatusServiceUnavailable, "[-]majority failed: 1 of 3\nreadyz check failed\n", statusFailed, "", "[-]majority failed: 1 of 3; readyz check failed\n"},
		"moved":     {http.StatusFound, "", statusFailed, "", "not ready"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/readyz" {
					t.Errorf("asked for %s", r.URL)
				}
				w.WriteHeader(test.code)
				_, _ = w.Write([]byte(test.body)) // a reader that left notices
			}))
			defer server.Close()
			status, stdout, stderr := runDemsd(t, "health", "frontend", "--listen", server.Listener.Addr().String())
			if status != test.exit || stdout != test.said || !strings.Contains(stderr, test.fail) {
				t.Errorf("status %d, said %q and %q", status, stdout, stderr)
			}
		})
	}
}

func TestHealthWithoutServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := runDemsd(t, "health", "frontend", "--listen", address); status != statusFailed || !strings.Contains(stderr, "does not answer") {
		t.Errorf("status %d, said %q", status, stderr)
	}
	if status, _, stderr := runDemsd(t, "health", "node", "--id", "n1", "--listen", address, "--pki-dir", filepath.Join(t.TempDir(), "none")); status != statusFailed ||
		!strings.Contains(stderr, "demsd pki") {
		t.Errorf("status %d, said %q", status, stderr)
	}
}

func TestHealthUsage(t *testing.T) {
	for _, args := range [][]string{
		{"node", "--listen", "127.0.0.1:1"}, {"node", "--id", "n1"}, {"node", "--id", "n1", "--listen", "7000"},
		{"node", "--id", "N1", "--listen", ":7000"}, {"frontend", "--listen", ""}, {"frontend", "--wait", "-1s"}, {"city"}, {"frontend", "fe1"},
	} {
		if status, _, stderr := runDemsd(t, append([]string{"health"}, args...)...); status != statusUsage || stderr == "" {
			t.Errorf("%v: status %d, said %q", args, status, stderr)
		}
	}
}

func TestReachable(t *testing.T) {
	for listen, want := range map[string]string{
		":7000": "127.0.0.1:7000", "0.0.0.0:7000": "127.0.0.1:7000", "[::]:7000": "[::1]:7000", "10.0.0.1:7000": "10.0.0.1:7000",
		"n1:7000": "n1:7000", "localhost:1": "localhost:1", "[fe80::1]:7": "[fe80::1]:7",
	} {
		if got, err := reachable(listen); got != want || err != nil {
			t.Errorf("%s is reached at %q, %v, want %q", listen, got, err, want)
		}
	}
	for _, listen := range []string{"", ":", "7000", "n1", "n1:", ":70000", "::7000"} {
		if got, err := reachable(listen); err == nil {
			t.Errorf("%q is reached at %q", listen, got)
		}
	}
}
