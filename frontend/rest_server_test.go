package frontend

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"dems"
)

// pipeListener is a listener whose connections are pipes in memory, so that servers work under synctest.
type pipeListener struct {
	accepted chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case connection := <-l.accepted:
		return connection, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// wire is a client's end of a connection to a server.
type wire struct {
	t *testing.T
	net.Conn
	reader *bufio.Reader
}

// serve starts a server on pipes and returns a function that connects to it.
func serve(t *testing.T, fake *restFake, config RESTConfig) (connect func() *wire) {
	t.Helper()
	listener := &pipeListener{accepted: make(chan net.Conn), closed: make(chan struct{})}
	server := NewServer(NewHandler(fake, config), config)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the server ended with %v", err)
		}
	})
	return func() *wire {
		near, far := net.Pipe()
		listener.accepted <- far
		t.Cleanup(func() { _ = near.Close() })
		return &wire{t, near, bufio.NewReader(near)}
	}
}

// write sends text in the background: a pipe holds nothing, and the server may answer before it has read everything.
func (w *wire) write(text string) {
	go func() { _, _ = io.WriteString(w, text) }()
}

// read reads one response to a request with the method.
func (w *wire) read(method string) (status int, header http.Header, body string) {
	w.t.Helper()
	response, err := http.ReadResponse(w.reader, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("no response: %v", err)
	}
	data, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatalf("no body: %v", err)
	}
	if response.Close { // ReadResponse has taken the header out
		response.Header.Set("Connection", "close")
	}
	return response.StatusCode, response.Header, string(data)
}

// expectEnd makes sure that the server has ended the connection.
func (w *wire) expectEnd() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.reader); err != nil || len(rest) > 0 {
		w.t.Errorf("%q and %v where the connection should have ended", rest, err)
	}
}

const bookBody = `{"eventType":"seminar","eventID":"TORM100519"}`

func bookHead(headers string) string {
	return "POST /v1/customers/MTLC0001/bookings HTTP/1.1\r\nHost: x\r\nDems-User: MTLC0001\r\nContent-Type: application/json\r\n" + headers + "\r\n"
}

func bookText() string {
	return bookHead(fmt.Sprintf("Content-Length: %d\r\n", len(bookBody))) + bookBody
}

func TestPipelining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, new(restFake), RESTConfig{})()
		bad := strings.Replace(bookText(), `"seminar"`, `"party"  `, 1)
		w.write(bookText() + bad + "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + bookText())
		for i, want := range []string{`{"outcome":"booked"`, `"code":"invalid_event_type"`, "ok", `{"outcome":"booked"`} {
			if _, _, body := w.read("POST"); !strings.Contains(body, want) {
				t.Errorf("response %d is %s, want %s", i, body, want)
			}
		}
	})
}

func TestOversizeBodies(t *testing.T) {
	for name, text := range map[string]string{
		"announced":   bookHead("Content-Length: 65537\r\n") + strings.Repeat("x", 65537),
		"gigantic":    bookHead("Content-Length: 9223372036854775807\r\n") + "x",
		"chunked":     bookHead("Transfer-Encoding: chunked\r\n") + strings.Repeat("4000\r\n"+strings.Repeat(" ", 0x4000)+"\r\n", 100) + "0\r\n\r\n",
		"expecting":   bookHead("Content-Length: 100000\r\nExpect: 100-continue\r\n"),
		"unrequested": "GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("4000\r\n"+strings.Repeat(" ", 0x4000)+"\r\n", 100),
	} {
		synctest.Test(t, func(t *testing.T) {
			fake := new(restFake)
			w := serve(t, fake, RESTConfig{})()
			w.write(text)
			status, header, body := w.read("POST")
			want := `"code":"payload_too_large"`
			if name == "unrequested" {
				want = `"code":"malformed_request"`
			}
			if !strings.Contains(body, want) || header.Get("Connection") != "close" || len(fake.seen()) != 0 {
				t.Errorf("%s: %d %v %s", name, status, header, body)
			}
			w.expectEnd()
		})
	}
}

func TestChunkedBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, new(restFake), RESTConfig{})()
		chunked := bookHead("Transfer-Encoding: chunked\r\n")
		for i := range bookBody {
			chunked += "1\r\n" + bookBody[i:i+1] + "\r\n"
		}
		w.write(chunked + "0\r\n\r\n" + bookText())
		for range 2 {
			if status, _, body := w.read("POST"); status != 201 {
				t.Errorf("%d %s", status, body)
			}
		}
		w.write(bookHead("Transfer-Encoding: chunked\r\n") + "zz\r\n")
		if status, _, body := w.read("POST"); status != 400 || !strings.Contains(body, "The body ended early") {
			t.Errorf("%d %s", status, body)
		}
		w.expectEnd()
	})
}

func TestExpectContinue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, new(restFake), RESTConfig{})()
		w.write(bookHead(fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n", len(bookBody))))
		if line, err := w.reader.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
			t.Fatalf("%q, %v", line, err)
		}
		_, _ = w.reader.ReadString('\n')
		w.write(bookBody)
		if status, _, body := w.read("POST"); status != 201 {
			t.Errorf("%d %s", status, body)
		}
		w.write(bookHead("Content-Length: 2\r\nExpect: a-miracle\r\n"))
		if status, _, _ := w.read("POST"); status != http.StatusExpectationFailed {
			t.Errorf("an unknown expectation is answered %d", status)
		}
	})
}

// TestSlowClients: whoever sends too slowly is let go, in bounded time.
func TestSlowClients(t *testing.T) {
	for name, test := range map[string]struct {
		text  string
		after time.Duration
		want  string
	}{
		"nothing":       {"", 5 * time.Second, ""},
		"half a head":   {"POST /v1/customers/MTLC0001/bookings HTTP/1.1\r\nHost: x", 5 * time.Second, ""},
		"half a body":   {bookHead("Content-Length: 50\r\n") + `{"event`, 10 * time.Second, "The body did not arrive in time."},
		"half chunks":   {bookHead("Transfer-Encoding: chunked\r\n") + "5\r\n{\"eve", 10 * time.Second, "The body did not arrive in time."},
		"idle for long": {bookText(), 2 * time.Minute, `{"outcome":"booked"`},
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			w := serve(t, new(restFake), RESTConfig{})()
			w.write(test.text)
			if test.want != "" {
				if _, _, body := w.read("POST"); !strings.Contains(body, test.want) {
					t.Errorf("%s: %s", name, body)
				}
			}
			w.expectEnd()
			if took := time.Since(start); took < test.after || took > test.after+time.Second {
				t.Errorf("%s: the connection ended after %v, want %v", name, took, test.after)
			}
		})
	}
}

// TestSlowReader: whoever does not read its response is let go too.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, new(restFake), RESTConfig{})()
		w.write("GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := w.reader.ReadByte(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(41 * time.Second) // of the bubble's time, longer than everything that the server allows
		if rest, _ := io.ReadAll(w.reader); len(rest) >= len(openAPIDocument) {
			t.Errorf("after all that time %d bytes came", len(rest))
		}
	})
}

// TestDeadline: a cluster that does not answer is not waited for for ever, and the whole deadline is waited for although the
// time to read the request is shorter.
func TestDeadline(t *testing.T) {
	for text, want := range map[string]string{
		bookText(): `"code":"indeterminate"`,
		"GET /v1/customers/MTLC0001/bookings HTTP/1.1\r\nHost: x\r\nDems-User: MTLC0001\r\n\r\n": `"code":"unavailable"`,
	} {
		synctest.Test(t, func(t *testing.T) {
			fake := &restFake{answer: func(ctx context.Context, _ dems.Command) (Reply, error) {
				<-ctx.Done()
				return Reply{}, ctx.Err()
			}}
			w := serve(t, fake, RESTConfig{Deadline: 30 * time.Second, ReadTimeout: time.Second, ReadHeaderTimeout: time.Second})()
			start := time.Now()
			w.write(text)
			if _, _, body := w.read("POST"); !strings.Contains(body, want) {
				t.Errorf("%.4s: %s", text, body)
			}
			if took := time.Since(start); took != 30*time.Second {
				t.Errorf("%.4s: answered after %v", text, took)
			}
		})
	}
}

// TestClientGone: what a client does not wait for any more is given up.
func TestClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started, ended := make(chan struct{}), make(chan error, 1)
		fake := &restFake{answer: func(ctx context.Context, _ dems.Command) (Reply, error) {
			close(started)
			<-ctx.Done()
			ended <- ctx.Err()
			return Reply{}, ctx.Err()
		}}
		start := time.Now()
		w := serve(t, fake, RESTConfig{})()
		w.write(bookText())
		<-started
		_ = w.Close()
		if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(start) > time.Second {
			t.Errorf("the request ended with %v after %v", err, time.Since(start))
		}
	})
}

func TestMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		fake := &restFake{answer: func(_ context.Context, command dems.Command) (Reply, error) {
			<-release
			return agreed(command), nil
		}}
		connect := serve(t, fake, RESTConfig{MaxInFlight: 2})
		first, second, third := connect(), connect(), connect()
		first.write(bookText())
		second.write(bookText())
		synctest.Wait()
		third.write(bookText())
		if status, header, body := third.read("POST"); status != 429 || header.Get("Retry-After") != "1" || !strings.Contains(body, "rate_limited") {
			t.Errorf("%d %v %s", status, header, body)
		}
		third.write("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
		if status, _, _ := third.read("GET"); status != 200 {
			t.Errorf("livez answers %d while all places are taken", status)
		}
		close(release)
		for _, w := range []*wire{first, second, third} {
			if w == third {
				synctest.Wait() // until the places are free
				third.write(bookText())
			}
			if status, _, body := w.read("POST"); status != 201 {
				t.Errorf("%d %s", status, body)
			}
		}
	})
}

// TestPanic: a handler that panics is a problem, and nothing but that one request suffers.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		fake := &restFake{answer: func(_ context.Context, command dems.Command) (Reply, error) {
			if command.Op == dems.BookEvent {
				panic("secret")
			}
			if command.Op == dems.GetBookingSchedule {
				panic(http.ErrAbortHandler)
			}
			return agreed(command), nil
		}}
		w := serve(t, fake, RESTConfig{MaxInFlight: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})()
		for range 2 {
			w.write(bookText())
			if status, _, body := w.read("POST"); status != 500 || !strings.Contains(body, `"code":"internal"`) || strings.Contains(body, "secret") {
				t.Errorf("%d %s", status, body)
			}
		}
		w.write("GET /v1/events/seminar HTTP/1.1\r\nHost: x\r\nDems-User: TORM0001\r\n\r\n")
		if status, _, body := w.read("GET"); status != 200 {
			t.Errorf("%d %s", status, body)
		}
		w.write("GET /v1/customers/MTLC0001/bookings HTTP/1.1\r\nHost: x\r\nDems-User: MTLC0001\r\n\r\n")
		w.expectEnd()
		if text := log.String(); strings.Count(text, "panic in a handler") != 2 || !strings.Contains(text, "cause=secret") || !strings.Contains(text, "goroutine") {
			t.Errorf("logged: %s", text)
		}
	})
}

// TestHead: HEAD answers what GET does, without the body.
func TestHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, new(restFake), RESTConfig{Now: func() time.Time { return restTime }})()
		for _, target := range []string{"/v1/events/seminar", "/v1/events/party", "/openapi.json", "/livez", "/nothing", "/v1/registry"} {
			w.write("GET " + target + " HTTP/1.1\r\nHost: x\r\nDems-User: TORM0001\r\n\r\n")
			status, header, body := w.read("GET")
			w.write("HEAD " + target + " HTTP/1.1\r\nHost: x\r\nDems-User: TORM0001\r\n\r\n")
			headStatus, headHeader, headBody := w.read("HEAD")
			if headStatus != status || headBody != "" || fmt.Sprint(headHeader) != fmt.Sprint(header) || header.Get("Content-Length") != fmt.Sprint(len(body)) {
				t.Errorf("%s: %d %v, HEAD %d %v %q", target, status, header, headStatus, headHeader, headBody)
			}
		}
	})
}

// TestUnusualRequests: what HTTP allows but nobody means.
func TestUnusualRequests(t *testing.T) {
	for text, want := range map[string]string{
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n":                                                    "404 not_found",
		"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n":                                              "404 not_found",
		"GET http://elsewhere/livez HTTP/1.1\r\nHost: x\r\n\r\n":                                   "200 ok",
		"GET /livez HTTP/1.0\r\n\r\n":                                                              "200 ok",
		"GET //livez HTTP/1.1\r\nHost: x\r\n\r\n":                                                  "404 not_found",
		"GET /livez?%zz HTTP/1.1\r\nHost: x\r\n\r\n":                                               "400 malformed_request",
		"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n":                                                     "400 ",
		"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 30_000) + "\r\n\r\n":         "431 ",
		"nonsense\r\n\r\n":                                                                         "400 ",
		"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n":         "400 ",
		strings.Replace(bookText(), "Content-Length", "Transfer-Encoding: chunked\r\nX-Length", 1): "400 malformed_request",
		bookHead("") + bookBody:                                                                    "400 malformed_request",
	} {
		synctest.Test(t, func(t *testing.T) {
			fake := new(restFake)
			w := serve(t, fake, RESTConfig{})()
			w.write(text)
			status, _, body := w.read("GET")
			if got := fmt.Sprint(status, " ", body); !strings.Contains(got, want[4:]) || !strings.HasPrefix(got, want[:4]) || len(fake.seen()) != 0 {
				t.Errorf("%.80q: %s, want %s", text, got, want)
			}
		})
	}
}

// TestRealConnection goes through the loopback interface once, with several clients at the same time.
func TestRealConnection(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(NewHandler(new(restFake), RESTConfig{}), RESTConfig{})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 50 {
				request, _ := http.NewRequest("POST", "http://"+listener.Addr().String()+"/v1/customers/MTLC0001/bookings", strings.NewReader(bookBody))
				request.Header.Set("Dems-User", "MTLC0001")
				request.Header.Set("Content-Type", "application/json")
				response, err := client.Do(request)
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if response.StatusCode != 201 || !strings.Contains(string(body), `"booked"`) {
					t.Errorf("%d %s", response.StatusCode, body)
				}
			}
		})
	}
	clients.Wait()
	client.CloseIdleConnections()
	if err := server.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	<-done
}
