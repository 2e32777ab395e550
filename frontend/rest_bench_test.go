package frontend

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"dems"
)

// quickCluster answers at once, so that what is measured is the REST layer alone.
type quickCluster struct{ Cluster }

func (quickCluster) Cities(context.Context) (dems.Cities, bool) { return benchmarkCities, true }

func (quickCluster) Do(_ context.Context, command dems.Command) (Reply, error) {
	return agreed(command), nil
}

var benchmarkCities = dems.DefaultCities()

// quickWriter is the cheapest http.ResponseWriter.
type quickWriter struct {
	header http.Header
	status int
}

func (w *quickWriter) Header() http.Header            { return w.header }
func (w *quickWriter) WriteHeader(status int)         { w.status = status }
func (w *quickWriter) Write(data []byte) (int, error) { return len(data), nil }

// BenchmarkBookRequest is one booking straight through the handler, without net/http.
func BenchmarkBookRequest(b *testing.B) {
	h := NewHandler(quickCluster{}, RESTConfig{})
	request := validCalls["bookEvent"].request()
	body := strings.NewReader("")
	request.Body = io.NopCloser(body)
	w := &quickWriter{header: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(bookBody)
		clear(w.header)
		h.ServeHTTP(w, request)
	}
	if w.status != http.StatusCreated {
		b.Fatal(w.status)
	}
}

// BenchmarkRefusal is a request that is refused for its event type.
func BenchmarkRefusal(b *testing.B) {
	h := NewHandler(quickCluster{}, RESTConfig{})
	request := validCalls["bookEvent"].request()
	body := strings.NewReader("")
	request.Body = io.NopCloser(body)
	w := &quickWriter{header: make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(`{"eventType":"party","eventID":"TORM100519"}`)
		clear(w.header)
		h.ServeHTTP(w, request)
	}
	if w.status != http.StatusBadRequest {
		b.Fatal(w.status)
	}
}

func BenchmarkDecodeObject(b *testing.B) {
	shape, values := []fieldShape{{name: "eventType"}, {name: "eventID"}}, make([]string, 2)
	data := []byte(bookBody)
	b.ReportAllocs()
	for b.Loop() {
		if err := decodeObject(data, shape, values); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBookConnections books over 64 connections of the loopback interface that are kept open. The clients only write
// and read prepared bytes, so that most of what is measured is the server: cpu-µs/op is user and system time of both.
func BenchmarkBookConnections(b *testing.B) {
	benchmarkConnections(b, NewHandler(quickCluster{}, RESTConfig{}))
}

// BenchmarkEmptyConnections is the same with a handler that does nothing: what net/http and the clients cost.
func BenchmarkEmptyConnections(b *testing.B) {
	benchmarkConnections(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	}))
}

func benchmarkConnections(b *testing.B, handler http.Handler) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := NewServer(handler, RESTConfig{})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	defer func() {
		_ = server.Close()
		<-done
	}()
	const connections = 64
	var left atomic.Int64
	left.Store(int64(b.N))
	failures := make(chan error, connections)
	before := processTime(b)
	b.ResetTimer()
	for range connections {
		go func() { failures <- bookRepeatedly(listener.Addr().String(), &left) }()
	}
	for range connections {
		if err := <-failures; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(processTime(b)-before)/float64(b.N), "cpu-µs/op")
}

// bookRepeatedly books over one connection until nothing is left to do.
func bookRepeatedly(address string, left *atomic.Int64) error {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	request, reader := []byte(bookText()), bufio.NewReader(connection)
	for left.Add(-1) >= 0 {
		if _, err := connection.Write(request); err != nil {
			return err
		}
		length := 0
		for {
			line, err := reader.ReadSlice('\n')
			if err != nil {
				return err
			}
			if len(line) == 2 {
				break
			}
			if text, found := strings.CutPrefix(string(line), "Content-Length: "); found {
				if length, err = strconv.Atoi(strings.TrimSpace(text)); err != nil {
					return err
				}
			}
		}
		if _, err := reader.Discard(length); err != nil {
			return err
		}
	}
	return nil
}

// processTime returns the user and system time of this process in microseconds.
func processTime(b *testing.B) int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return (usage.Utime.Sec+usage.Stime.Sec)*1e6 + usage.Utime.Usec + usage.Stime.Usec
}
