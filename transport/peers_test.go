package transport

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"dems"
	"dems/internal/faultnet"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// stranger dials a node with whatever TLS configuration, and reports how the node ended the connection: nil if it sent
// something of its own accord, as it does to those that it admits to RPC.
func stranger(t *testing.T, address net.Addr, config *tls.Config) error {
	t.Helper()
	socket := udp(t, "")
	defer socket.Close()
	dialler := &quic.Transport{Conn: socket}
	defer dialler.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	connection, err := dialler.Dial(ctx, address, config, &quic.Config{})
	if err != nil {
		return err
	}
	defer connection.CloseWithError(0, "")
	if config.NextProtos[0] == protocolRaft {
		// A Raft peer speaks first.
		stream, err := connection.OpenStreamSync(ctx)
		if err != nil {
			return err
		}
		stream.Write([]byte("ping"))
		_, err = stream.Read(make([]byte, 4))
		return err
	}
	_, err = connection.AcceptUniStream(ctx)
	return err
}

func TestOnlyTheClusterGetsIn(t *testing.T) {
	node := start(t, "n1", Config{})
	node.Serve(&stub{})
	layer := node.RaftLayer(1, dems.Origin{})
	admitted := make(chan struct{}, 16)
	node.start(func() {
		for {
			stream, err := layer.Accept()
			if err != nil {
				return
			}
			admitted <- struct{}{}
			stream.Write([]byte("pong"))
		}
	})
	foreign := cluster(t)
	n2, fe1 := credentials(t, authority, "n2"), credentials(t, authority, "fe1")
	for name, test := range map[string]struct {
		config  *tls.Config
		refusal string // "" = admitted
	}{
		"node, RPC":          {n2.clientTLS(protocolRPC, ""), ""},
		"node, Raft":         {n2.clientTLS(protocolRaft, ""), ""},
		"front end, RPC":     {fe1.clientTLS(protocolRPC, "n1"), ""},
		"front end, Raft":    {fe1.clientTLS(protocolRaft, "n1"), "tls: bad certificate"},
		"no certificate":     {without(n2.clientTLS(protocolRPC, "")), "tls: certificate required"},
		"no certificate, R.": {without(n2.clientTLS(protocolRaft, "")), "tls: certificate required"},
		"other authority":    {trusting(credentials(t, foreign, "n1").clientTLS(protocolRaft, ""), n2), "tls: unknown certificate authority"},
		"unknown protocol":   {n2.clientTLS("dems-raft/2", ""), "tls: no application protocol"},
		"no protocol":        {n2.clientTLS("", ""), "application protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.config.NextProtos[0] == "" {
				test.config.NextProtos = []string{"http/1.1"}
			}
			err := stranger(t, node.Addr(), test.config)
			if (err == nil) != (test.refusal == "") {
				t.Fatalf("got %v, want %q", err, test.refusal)
			}
			if err != nil && !strings.Contains(err.Error(), test.refusal) {
				t.Errorf("got %v, want %q", err, test.refusal)
			}
		})
	}
	if len(admitted) != 1 {
		t.Errorf("%d Raft streams came in, want the node's alone", len(admitted))
	}
}

func without(config *tls.Config) *tls.Config {
	config.Certificates = nil
	return config
}

// trusting lets a client of another cluster accept this cluster's nodes.
func trusting(config *tls.Config, ours *Credentials) *tls.Config {
	config.RootCAs = ours.authority
	return config
}

func TestOnlyNodesOfTheClusterAreTalkedTo(t *testing.T) {
	foreign := cluster(t)
	serve := func(credentials *Credentials) string {
		socket := udp(t, "")
		listener, err := quic.Listen(socket, credentials.serverTLS(), &quic.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close(); socket.Close() })
		return socket.LocalAddr().String()
	}
	frontEnd := start(t, "fe1", Config{})
	for name, credentials := range map[string]*Credentials{
		"node of another authority": credentials(t, foreign, "n1"),
		"front end":                 credentials(t, authority, "fe1"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := frontEnd.Replica(serve(credentials)).Propose(t.Context(), []byte("x"))
			if got := kind(t, err, dems.NotApplied); !strings.Contains(got.Error(), "x509") {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestARefusedServerLearnsWhy(t *testing.T) {
	node := start(t, "n1", Config{})
	foreign := credentials(t, cluster(t), "fe1")
	foreign.authority = credentials(t, authority, "fe1").authority
	frontEnd := start(t, "", Config{Credentials: foreign})
	_, err := frontEnd.Replica(node.Addr().String()).Propose(t.Context(), []byte("x"))
	if got := kind(t, err, dems.NotApplied); !strings.Contains(got.Error(), "unknown certificate authority") {
		t.Errorf("got %v", got)
	}
}

// TestExpiredCertificates puts the clock forward: standing connections stay, new ones fail.
func TestExpiredCertificates(t *testing.T) {
	inLab(t, func(t *testing.T, lab *lab) {
		lab.start("n1", Config{IdleTimeout: leafLifetime}).Serve(&stub{propose: echo})
		frontEnd := lab.start("fe1", Config{IdleTimeout: leafLifetime})
		propose := func(replica *Replica) error {
			_, err := replica.Propose(t.Context(), []byte("x"))
			return err
		}
		standing := frontEnd.Replica("n1")
		if err := propose(standing); err != nil {
			t.Fatal(err)
		}
		time.Sleep(leafLifetime + time.Second)
		if err := propose(standing); err != nil {
			t.Errorf("the standing connection: %v", err)
		}
		got := kind(t, propose(frontEnd.Replica("n1")), dems.NotApplied)
		if !strings.Contains(got.Error(), "expired") {
			t.Errorf("a new connection: %v", got)
		}
		// Nor does the node admit a certificate that has expired, whatever the client thinks of the node's.
		dialler := &quic.Transport{Conn: lab.socket("stranger")}
		defer dialler.Close()
		config := frontEnd.config.Credentials.clientTLS(protocolRPC, "")
		config.Time = func() time.Time { return time.Now().Add(-time.Hour) }
		connection, err := dialler.Dial(t.Context(), faultnet.Addr("n1"), config, &quic.Config{})
		if err == nil {
			_, err = connection.AcceptUniStream(t.Context())
		}
		mentions(t, err, "tls: expired certificate")
	})
}

// TestOnlyTheServiceIsServed sends what no client of ours sends.
func TestOnlyTheServiceIsServed(t *testing.T) {
	node := start(t, "n1", Config{})
	node.Serve(&stub{propose: echo})
	frontEnd := start(t, "fe1", Config{})
	connector := newConnector(frontEnd, protocolRPC, "", func() (string, error) { return node.Addr().String(), nil })
	connection, err := connector.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const propose = "/dems.v1.Replica/Propose"
	for name, test := range map[string]struct {
		method, path, contentType, body string
		status                          int
	}{
		"an entry":          {"POST", propose, "application/proto", "\x0a\x01x", 200},
		"not protobuf":      {"POST", propose, "application/proto", "\xff\xff", 400},
		"too large":         {"POST", propose, "application/proto", strings.Repeat("x", maxRequestBytes+1), 429},
		"JSON":              {"POST", propose, "application/json", "{}", 415},
		"gRPC":              {"POST", propose, "application/grpc", "", 415},
		"no type":           {"POST", propose, "", "", 415},
		"GET":               {"GET", propose, "application/proto", "", 405},
		"another path":      {"POST", "/", "application/proto", "", 404},
		"another procedure": {"POST", "/dems.v1.Replica/Stop", "application/proto", "", 404},
		"stream as unary":   {"POST", "/dems.v1.Replica/Votes", "application/proto", "", 415},
	} {
		t.Run(name, func(t *testing.T) {
			status, header := rawRequest(t, connection.http, test.method, test.path, test.contentType, test.body)
			if status != test.status {
				t.Errorf("status %d, want %d", status, test.status)
			}
			if slices.Contains(header, "gzip") {
				t.Errorf("the node compresses: %q", header)
			}
		})
	}
	if _, err := frontEnd.Replica(node.Addr().String()).Propose(t.Context(), []byte("x")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func rawRequest(t *testing.T, connection *http3.ClientConn, method, path, contentType, body string) (status int, compression []string) {
	t.Helper()
	request, err := newRawRequest(t.Context(), method, path, contentType, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := connection.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, append(response.Header["Content-Encoding"], response.Header["Accept-Encoding"]...)
}
