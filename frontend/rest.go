package frontend

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"dems"
)

// Every request is handled in the same order, and the first thing that is wrong is the answer: route, method, room
// under MaxInFlight, who asks, media type, size and shape of the body, query parameters, and then what Cities.Parse
// checks. A response is written in one piece when the request is done, so whatever goes wrong before, a panic included,
// can still become a problem.

// restHandler serves the REST interface.
type restHandler struct {
	cluster   Cluster
	config    RESTConfig
	router    *mux.Router
	routes    map[*mux.Route]*route
	metrics   *restMetrics
	inFlight  atomic.Int64 // requests in progress under /v1
	exchanges sync.Pool    // of *exchange
}

// NewHandler returns the handler of the REST interface. It is safe for concurrent use and starts no goroutine.
func NewHandler(cluster Cluster, config RESTConfig) http.Handler {
	return newRESTHandler(cluster, config)
}

func newRESTHandler(cluster Cluster, config RESTConfig) *restHandler {
	h := &restHandler{
		cluster: cluster,
		config:  config.withDefaults(),
		router:  mux.NewRouter().UseEncodedPath(),
		routes:  make(map[*mux.Route]*route),
	}
	h.exchanges.New = func() any { return new(exchange) }
	h.metrics = newRESTMetrics(h.config.Registry, func() float64 { return float64(h.inFlight.Load()) })
	for _, r := range routes() {
		if r.drill && !h.config.EnableFaults {
			continue
		}
		methods := []string{r.method}
		if r.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
		// The path stands before the methods: mux forgets that a path matched when a later route's method does.
		added := h.router.Path(r.path).Methods(methods...)
		r.metrics = h.metrics.forRoute(r.path, r.method)
		h.routes[added] = &r
	}
	return h
}

// ServeHTTP implements http.Handler.
func (h *restHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := h.exchanges.Get().(*exchange)
	x.begin(w, r, h.config.Now())
	defer h.finish(w, x)
	if err := h.dispatch(w, x); err != nil {
		h.fail(x, err)
	}
}

// dispatch finds the route of a request and serves it.
func (h *restHandler) dispatch(w http.ResponseWriter, x *exchange) error {
	var match mux.RouteMatch
	if !h.router.Match(x.request, &match) {
		return h.noRoute(x, match.MatchErr)
	}
	x.route, x.variables = h.routes[match.Route], match.Vars
	if strings.HasPrefix(x.route.path, "/v1/") {
		x.counted = true
		if h.inFlight.Add(1) > int64(h.config.MaxInFlight) {
			return &dems.Error{Code: dems.RateLimited}
		}
	}
	if err := x.read(); err != nil {
		return err
	}
	// The request is here. Were ReadTimeout to pass now, net/http would take the client for gone and end the context.
	if connection, ok := w.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = connection.SetReadDeadline(time.Time{})
	}
	ctx := x.request.Context()
	if !x.route.stream {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, h.config.Deadline)
		defer cancel()
	}
	return x.route.serve(h, ctx, x)
}

// noRoute answers what no route serves.
func (h *restHandler) noRoute(x *exchange, cause error) error {
	if !errors.Is(cause, mux.ErrMethodMismatch) {
		detail := "" // the code's own
		if x.request.URL.Path == faultsPath {
			detail = "There are faults only where front ends and nodes were started for drills, with --enable-faults."
		}
		return &dems.Error{Code: dems.NotFound, Detail: detail}
	}
	var allowed []string
	for _, method := range [...]string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete} {
		other := *x.request
		other.Method = method
		if h.router.Match(&other, new(mux.RouteMatch)) {
			allowed = append(allowed, method)
		}
	}
	x.header.Set("Allow", strings.Join(allowed, ", "))
	return &dems.Error{Code: dems.MethodNotAllowed}
}

// fail makes an error the response. What an error without a code says is for the log, not for the client.
func (h *restHandler) fail(x *exchange, err error) {
	failure, ok := errors.AsType[*dems.Error](err)
	if !ok || statusOf(failure.Code) == http.StatusInternalServerError {
		h.config.Logger.Error("request failed", "method", x.request.Method, "path", x.request.URL.Path, "error", err)
		failure = &dems.Error{Code: dems.Internal}
	}
	x.problem(failure.Code, failure.Detail, 0)
}

// finish writes the response, also after a panic, and counts it. The request's place under MaxInFlight is free only then, so
// that responses which nobody reads are bounded too.
func (h *restHandler) finish(w http.ResponseWriter, x *exchange) {
	if x.counted {
		defer h.inFlight.Add(-1)
	}
	if cause := recover(); cause != nil {
		if cause == http.ErrAbortHandler {
			panic(cause)
		}
		h.config.Logger.Error("panic in a handler", "method", x.request.Method, "path", x.request.URL.Path,
			"cause", cause, "stack", string(debug.Stack()))
		if x.begun {
			panic(http.ErrAbortHandler) // what was sent must not look whole
		}
		clear(x.header)
		x.problem(dems.Internal, "", 0)
	}
	if !x.begun {
		x.header["Content-Length"] = []string{strconv.Itoa(len(x.output))}
		w.WriteHeader(x.status)
		_, _ = w.Write(x.output) // a client that is gone needs no answer
	}
	h.observe(x)
	x.release()
	h.exchanges.Put(x)
}

// observe counts a finished request and logs it at debug level.
func (h *restHandler) observe(x *exchange) {
	duration := h.config.Now().Sub(x.start)
	h.metrics.observe(x, duration)
	if !h.config.Logger.Enabled(x.request.Context(), slog.LevelDebug) {
		return
	}
	h.config.Logger.Debug("request", "method", x.request.Method, "path", x.request.URL.Path, "by", x.by,
		"status", x.status, "code", x.code.String(), "bytes", int64(len(x.output))+x.sent, "duration", duration,
		"remote", x.request.RemoteAddr)
}

// now returns the time to stamp into a command: UTC, to the millisecond.
func (x *exchange) now() time.Time { return x.start.UTC().Truncate(time.Millisecond) }
