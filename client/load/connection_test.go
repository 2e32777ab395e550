package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func answerOf(text string) *connection {
	return &connection{reader: bufio.NewReaderSize(strings.NewReader(text), maxHeadLineBytes)}
}

func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name, text string
		status     int // 0: an error
		body       string
		closing    bool
	}{
		{"length", "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}", 201, "{}", false},
		{"length in other letters", "HTTP/1.1 200 OK\r\nA: b\r\ncontent-LENGTH:2\r\n\r\n{}", 200, "{}", false},
		{"no body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", false},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, "", false},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, "{}", false},
		{"chunks with a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n", 200, "{}", false},
		{"last answer", "HTTP/1.1 503 No\r\nConnection: Close\r\nContent-Length: 1\r\n\r\nx", 503, "x", true},
		{"end", "", 0, "", false},
		{"end inside the head", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", 0, "", false},
		{"end inside the body", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", 0, "", false},
		{"end inside the chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", 0, "", false},
		{"older", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 0, "", false},
		{"no HTTP", "220 smtp.example.com ESMTP\r\n", 0, "", false},
		{"no status", "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n", 0, "", false},
		{"no length", "HTTP/1.1 200 OK\r\n\r\n", 0, "", false},
		{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, "", false},
		{"length in words", "HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n", 0, "", false},
		{"great length", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", 0, "", false},
		{"long line", "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", maxHeadLineBytes) + "\r\n\r\n", 0, "", false},
		{"long head", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxHeadLines+1) + "\r\n", 0, "", false},
	} {
		c := answerOf(test.text)
		status, body, err := c.answer()
		if test.status == 0 {
			if err == nil {
				t.Errorf("%s: read as %d %q", test.name, status, body)
			}
			continue
		}
		if err != nil || status != test.status || string(body) != test.body || c.closing != test.closing {
			t.Errorf("%s: %d %q closing %t, %v", test.name, status, body, c.closing, err)
		}
		if c.reader.Buffered() > 0 {
			t.Errorf("%s: %d bytes are left for the next answer", test.name, c.reader.Buffered())
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")
	f.Add("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, body, err := answerOf(text).answer()
		if err == nil && len(body) > len(text) {
			t.Errorf("%d bytes of body out of %d", len(body), len(text))
		}
	})
}

func TestEndpoints(t *testing.T) {
	for text, want := range map[string]endpoint{
		"http://127.0.0.1:8080":    {address: "127.0.0.1:8080", host: "127.0.0.1:8080"},
		"http://localhost/":        {address: "localhost:80", host: "localhost"},
		"http://[::1]:81/dems/api": {address: "[::1]:81", host: "[::1]:81", prefix: "/dems/api"},
	} {
		if got, err := parseEndpoint(text, nil); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	secure, err := parseEndpoint("https://example.com", &tls.Config{})
	if err != nil || secure.address != "example.com:443" || secure.tls.ServerName != "example.com" {
		t.Errorf("%+v, %v", secure, err)
	}
	for _, text := range []string{"", "127.0.0.1:8080", "ftp://host", "http://", "http://:80"} {
		if _, err := parseEndpoint(text, nil); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

// roundTripOf sends a request to a test server.
func roundTripOf(t *testing.T, ctx context.Context, server *httptest.Server, config *tls.Config, deadline time.Time) (int, string, error) {
	t.Helper()
	to, err := parseEndpoint(server.URL, config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dial(ctx, &to, time.Second)
	if err != nil {
		return 0, "", err
	}
	defer c.close()
	status, body, err := c.roundTrip(ctx, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), deadline)
	return status, string(body), err
}

func TestRoundTripOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) {
		writer.Write([]byte("hello"))
	}))
	defer server.Close()
	authorities := x509.NewCertPool()
	authorities.AddCert(server.Certificate())
	status, body, err := roundTripOf(t, t.Context(), server, &tls.Config{RootCAs: authorities}, time.Now().Add(time.Minute))
	if err != nil || status != 200 || body != "hello" {
		t.Errorf("%d %q %v", status, body, err)
	}
	if _, _, err := roundTripOf(t, t.Context(), server, nil, time.Now().Add(time.Minute)); err == nil {
		t.Error("an unknown authority is trusted")
	}
}

func TestRoundTripEndsWithItsDeadlineAndItsContext(t *testing.T) {
	asked := make(chan struct{}, 2)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		asked <- struct{}{}
		<-request.Context().Done()
	}))
	defer server.Close()
	if _, _, err := roundTripOf(t, t.Context(), server, nil, time.Now().Add(20*time.Millisecond)); err == nil {
		t.Error("an answer that never came")
	}
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, _, err := roundTripOf(t, ctx, server, nil, time.Now().Add(time.Minute)); err == nil {
		t.Error("an answer that never came")
	}
	if _, _, err := roundTripOf(t, ctx, server, nil, time.Now().Add(time.Minute)); err == nil {
		t.Error("a connection after the context ended")
	}
}

func TestDialOfNobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := endpoint{address: listener.Addr().String()}
	listener.Close()
	if _, err := dial(t.Context(), &to, time.Second); err == nil {
		t.Error("connected")
	}
}
