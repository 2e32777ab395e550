package frontend

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dems"
)

const (
	// reportLimit is how many reports may wait; the oldest gives way.
	reportLimit = 32
	// reportTimeout bounds one report to one node.
	reportTimeout = 500 * time.Millisecond
	// reportsAtOnce is how many reports are on their way at once, so that a node that hangs delays no other report.
	reportsAtOnce = 8
	// noMajorityPause is the least time between two reports that no answer had a majority.
	noMajorityPause = time.Second
)

// reporter tells all nodes what this front end has seen. Nothing waits for it.
type reporter struct {
	members *members
	logger  *slog.Logger
	metrics *coreMetrics
	filled  chan struct{} // told that there is something; holds one

	mu         sync.Mutex
	queue      []dems.Report
	noMajority time.Time // when that was last reported
}

func newReporter(m *members, logger *slog.Logger, metrics *coreMetrics) *reporter {
	return &reporter{members: m, logger: logger, metrics: metrics, filled: make(chan struct{}, 1)}
}

// add has a report sent. One that waits about the same life of a node gives way to it, unless it says more.
func (r *reporter) add(report dems.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch report.Kind {
	case dems.NoMajorityReport:
		if now := time.Now(); r.noMajority.IsZero() || now.Sub(r.noMajority) >= noMajorityPause {
			r.noMajority = now
		} else {
			return
		}
	default:
		r.queue = slices.DeleteFunc(r.queue, func(other dems.Report) bool {
			return other.Node == report.Node && other.Incarnation == report.Incarnation && other.Kind <= report.Kind
		})
	}
	if len(r.queue) >= reportLimit {
		r.queue = slices.Delete(r.queue, 0, 1)
	}
	r.queue = append(r.queue, report)
	select {
	case r.filled <- struct{}{}:
	default:
	}
}

// take returns the next report.
func (r *reporter) take() (dems.Report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return dems.Report{}, false
	}
	report := r.queue[0]
	r.queue = slices.Delete(r.queue, 0, 1)
	return report, true
}

// run sends what is reported until the context ends.
func (r *reporter) run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	places := make(chan struct{}, reportsAtOnce)
	for {
		select {
		case <-ctx.Done():
			return nil
		case places <- struct{}{}:
		}
		report, ok := r.take()
		for !ok {
			select {
			case <-ctx.Done():
				return nil
			case <-r.filled:
			}
			report, ok = r.take()
		}
		group.Go(func() {
			defer func() { <-places }()
			r.send(ctx, &report)
		})
	}
}

// send sends a report to every node and waits for all of them.
func (r *reporter) send(ctx context.Context, report *dems.Report) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	r.metrics.reports.WithLabelValues(reportNames[report.Kind]).Inc()
	var group sync.WaitGroup
	for _, n := range r.members.view().distinct() {
		group.Go(func() {
			if err := n.replica.Report(ctx, *report); err != nil {
				r.logger.Debug("report", "node", n.address, "kind", reportNames[report.Kind], "error", err)
			}
		})
	}
	group.Wait()
}

// reportNames are the labels of the metrics.
var reportNames = [...]string{
	dems.WrongAnswerReport: "wrong-answer", dems.AccusationReport: "accusation", dems.NoMajorityReport: "no-majority",
}
