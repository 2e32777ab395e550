package onenode

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"dems/frontend"
)

// Fault is what a front end does to a request.
type Fault string

// The faults.
const (
	None       Fault = "none"
	CutBefore  Fault = "cut-before"  // the connection is cut, nothing is applied
	CutAfter   Fault = "cut-after"   // the request is applied, then the connection is cut
	CutInside  Fault = "cut-inside"  // the request is applied, then the connection is cut in the middle of the answer
	Hang       Fault = "hang"        // no answer until the client goes away, nothing is applied
	HangAfter  Fault = "hang-after"  // the request is applied, but there is no answer until the client goes away
	NotOurs    Fault = "not-ours"    // something that is no front end answers
	BadGateway Fault = "bad-gateway" // a proxy answers that it lost its front end
)

// Request is a request that arrived.
type Request struct {
	Method, Path string // the path with its query
	User, Token  string
	Key          string
}

// FrontEnd is a front end at URL. Its faults are its own, its cluster may be shared.
type FrontEnd struct {
	URL    string
	server *httptest.Server

	mu       sync.Mutex
	faults   []Fault // for the next requests
	requests []Request
}

// Start starts a front end of a cluster on a port of this machine, and registers it. Close ends it.
func Start(cluster *Cluster, id string) (*FrontEnd, error) {
	f := &FrontEnd{}
	handler := frontend.NewHandler(cluster, frontend.RESTConfig{EnableFaults: true})
	f.server = httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		f.serve(writer, request, handler)
	}))
	f.URL = f.server.URL
	cluster.mu.Lock()
	defer cluster.mu.Unlock()
	return f, cluster.register(id, f.URL, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
}

// Close cuts all connections and waits until everything has ended.
func (f *FrontEnd) Close() {
	f.server.CloseClientConnections()
	f.server.Close()
}

// Fault has faults happen to the next requests, one after the other.
func (f *FrontEnd) Fault(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, faults...)
}

// Requests returns the requests that arrived so far.
func (f *FrontEnd) Requests() []Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Request(nil), f.requests...)
}

// note records a request and returns what is to happen to it.
func (f *FrontEnd) note(request *http.Request) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, Request{
		Method: request.Method, Path: request.URL.RequestURI(), User: request.Header.Get("Dems-User"),
		Token: request.Header.Get("Authorization"), Key: request.Header.Get("Idempotency-Key"),
	})
	if len(f.faults) == 0 {
		return None
	}
	fault := f.faults[0]
	f.faults = f.faults[1:]
	return fault
}

func (f *FrontEnd) serve(writer http.ResponseWriter, request *http.Request, handler http.Handler) {
	switch f.note(request) {
	case None:
		handler.ServeHTTP(writer, request)
	case CutBefore:
		panic(http.ErrAbortHandler)
	case CutAfter:
		handler.ServeHTTP(httptest.NewRecorder(), request)
		panic(http.ErrAbortHandler)
	case CutInside:
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		for name, values := range answer.Header() {
			writer.Header()[name] = values
		}
		writer.Header().Set("Content-Length", "100000")
		writer.WriteHeader(answer.Code)
		writer.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
		panic(http.ErrAbortHandler)
	case Hang:
		awaitDeparture(request)
	case HangAfter:
		handler.ServeHTTP(httptest.NewRecorder(), request)
		awaitDeparture(request)
	case NotOurs:
		http.Error(writer, "404 page not found", http.StatusNotFound)
	case BadGateway:
		http.Error(writer, "bad gateway", http.StatusBadGateway)
	}
}

// awaitDeparture waits until the client has closed its connection.
func awaitDeparture(request *http.Request) {
	_, _ = io.Copy(io.Discard, request.Body) // only when a body was read does net/http notice
	<-request.Context().Done()
	panic(http.ErrAbortHandler)
}
