package frontend

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dems"
)

// restMetrics counts requests. Every label has a small, fixed set of values, whatever clients send.
type restMetrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	problems  []prometheus.Counter // by code
	unmatched *routeMetrics
}

// routeMetrics are the metrics of one route, looked up once.
type routeMetrics struct {
	classes  [6]prometheus.Counter // by the first digit of the status
	duration prometheus.Observer
}

// newRESTMetrics registers the metrics; inFlight tells how many requests are in progress.
func newRESTMetrics(registry *prometheus.Registry, inFlight func() float64) *restMetrics {
	m := &restMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dems_frontend_requests_total",
			Help: "Requests answered, by route template, method and class of status.",
		}, []string{"route", "method", "class"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "dems_frontend_request_duration_seconds",
			Help:    "Time from the end of a request's head to the end of its response.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method"}),
	}
	problems := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dems_frontend_problems_total",
		Help: "Requests answered with a problem, by code.",
	}, []string{"code"})
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dems_frontend_requests_in_flight",
		Help: "Requests under /v1 in progress.",
	}, inFlight)
	registry.MustRegister(m.requests, m.durations, problems, gauge)
	m.problems = make([]prometheus.Counter, len(statuses))
	for _, code := range dems.Codes() {
		m.problems[code] = problems.WithLabelValues(code.String())
	}
	m.unmatched = m.forRoute("unmatched", "any")
	return m
}

// forRoute returns the metrics of a route. A request with HEAD counts as one with GET.
func (m *restMetrics) forRoute(path, method string) *routeMetrics {
	metrics := &routeMetrics{duration: m.durations.WithLabelValues(path, method)}
	for class := range metrics.classes {
		if class >= http.StatusOK/100 {
			metrics.classes[class] = m.requests.WithLabelValues(path, method, strconv.Itoa(class)+"xx")
		}
	}
	return metrics
}

// observe counts a finished request.
func (m *restMetrics) observe(x *exchange, duration time.Duration) {
	metrics := m.unmatched
	if x.route != nil {
		metrics = x.route.metrics
	}
	if class := x.status / 100; class < len(metrics.classes) && metrics.classes[class] != nil {
		metrics.classes[class].Inc()
	}
	metrics.duration.Observe(duration.Seconds())
	if x.code != dems.OK {
		m.problems[x.code].Inc()
	}
}
