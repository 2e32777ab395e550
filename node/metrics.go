package node

import (
	"errors"

	"dems"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what a node tells Prometheus of itself.
type metrics struct {
	registerer prometheus.Registerer
	collectors []prometheus.Collector

	apply     prometheus.Histogram
	store     prometheus.Histogram
	incidents *prometheus.CounterVec
}

// latencies are buckets from 10 µs to 2.6 s.
var latencies = prometheus.ExponentialBuckets(10e-6, 4, 10)

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		registerer: registerer,
		apply: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dems_node_apply_seconds", Help: "Time to apply one log entry.", Buckets: latencies,
		}),
		store: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dems_node_store_seconds", Help: "Time to write log entries durably, once per write.", Buckets: latencies,
		}),
	}
	m.incidents = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dems_node_incidents_total", Help: "Incidents that this node has applied since it started.",
	}, []string{"kind"})
	for _, kind := range dems.IncidentKinds() {
		m.incidents.WithLabelValues(kind.String())
	}
	m.collectors = []prometheus.Collector{m.apply, m.store, m.incidents}
	return m
}

// gauge adds a metric whose value is asked for when it is read.
func (m *metrics) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	m.collectors = append(m.collectors, prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "dems_node_" + name, Help: help, ConstLabels: labels}, value))
}

// watch adds the metrics of a node.
func (m *metrics) watch(n *Node) {
	m.gauge("applied_index", "Log index of the last applied entry.", nil, func() float64 { return float64(n.state.applied.get()) })
	m.gauge("term", "Raft term.", nil, func() float64 {
		if r := n.raft.Load(); r != nil {
			return float64(r.CurrentTerm())
		}
		return 0
	})
	m.gauge("is_leader", "1 while the node is the leader.", nil, func() float64 { return oneIf(n.isLeader()) })
	m.gauge("is_ready", "1 once the node has caught up with what it knew before its start.", nil,
		func() float64 { return oneIf(n.isReady()) })
	m.gauge("proposals_in_flight", "Proposals that wait for Raft.", nil, func() float64 { return float64(len(n.proposals)) })
	m.gauge("queries_waiting", "Query calls being served.", nil, func() float64 { return float64(len(n.queries)) })
	m.gauge("ring_bytes", "Results kept for recent votes.", nil, func() float64 { return float64(n.state.ring.size()) })
	for _, named := range n.config.Cities {
		m.gauge("city_log_bytes", "Size of a city log.", prometheus.Labels{"city": named.City.String()},
			func() float64 { return float64(n.logs.Size(named.City)) })
	}
}

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}

// register hands everything to Prometheus.
func (m *metrics) register() error {
	if m.registerer == nil {
		return nil
	}
	for i, collector := range m.collectors {
		if err := m.registerer.Register(collector); err != nil {
			m.collectors = m.collectors[:i]
			return errors.Join(err, errors.New("node metrics"))
		}
	}
	return nil
}

// unregister takes it back, so that a node can be opened again in the same process.
func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, collector := range m.collectors {
		m.registerer.Unregister(collector)
	}
}
