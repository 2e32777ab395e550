package frontend

import "github.com/prometheus/client_golang/prometheus"

// coreMetrics measures what stands behind the REST layer.
type coreMetrics struct {
	batchSize prometheus.Histogram
	decided   prometheus.Histogram
	split     prometheus.Counter
	early     prometheus.Counter
	rounds    prometheus.Counter
	ordered   prometheus.Counter
	laneFull  prometheus.Counter

	noMajority prometheus.Counter
	suspicions prometheus.Counter
	forwarded  prometheus.Counter
	reports    *prometheus.CounterVec // by kind
	wrong      *prometheus.CounterVec // by node
	strikes    *prometheus.GaugeVec   // by node
}

func newCoreMetrics(registerer prometheus.Registerer) *coreMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "dems_frontend_" + name, Help: help})
	}
	m := &coreMetrics{
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dems_frontend_batch_commands", Help: "Commands in a batch.", Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
		decided: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dems_frontend_batch_seconds", Help: "Time from proposing a batch until a majority had the same results.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		split:    counter("batches_split_total", "Batches for which no digest had a majority."),
		early:    counter("first_answers_wrong_total", "Batches whose first answer was not the majority's (reply mode first)."),
		rounds:   counter("reads_asked_again_total", "Rounds in which late nodes were asked again for a read."),
		ordered:  counter("reads_ordered_total", "Reads that were ordered through the log."),
		laneFull: counter("reads_lane_full_total", "Questions not asked because too many waited for a node."),

		noMajority: counter("no_majority_total", "Batches of which at least one command had no majority."),
		forwarded:  counter("batches_forwarded_total", "Batches that other nodes were asked to hand on to a leader that does not answer."),
		suspicions: counter("suspicions_total", "Times that the leader was suspected because it did not answer."),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dems_frontend_reports_total", Help: "Reports sent to the nodes, by kind.",
		}, []string{"kind"}),
		wrong: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dems_frontend_wrong_answers_total", Help: "Requests that a node answered unlike the majority, by node.",
		}, []string{"node"}),
		strikes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "dems_frontend_strikes", Help: "Wrong answers in a row of a node that has given one, by node.",
		}, []string{"node"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.batchSize, m.decided, m.split, m.early, m.rounds, m.ordered, m.laneFull,
			m.noMajority, m.suspicions, m.forwarded, m.reports, m.wrong, m.strikes)
	}
	return m
}
