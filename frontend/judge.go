package frontend

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dems"
	"dems/frontend/voting"
)

const (
	// compareLimit is how many nodes may be asked at once for results that differ from the majority's. Beyond it a wrong
	// batch is let pass: whoever is wrong that often is found out by another one.
	compareLimit = 32
	// probeTimeout bounds a read that is ordered through the log as evidence.
	probeTimeout = 2 * time.Second
)

// judge keeps the score of the nodes: every answer of a voter to a request of this front end is right, wrong, or nothing that
// can be said, as when it is late. It reports who is wrong. It convicts nobody: that is for the nodes, by their own records.
type judge struct {
	members  *members
	reporter *reporter
	logger   *slog.Logger
	metrics  *coreMetrics
	errands  *errands
	order    func(ctx context.Context, command dems.Command, probing *node) (Reply, error) // through the log

	struck atomic.Bool // some node has strikes: without any, nothing is to be reset

	mu      sync.Mutex
	strikes voting.Strikes
	probing map[dems.NodeID]bool // a read is on its way through the log because of that node's answer
}

func newJudge(m *members, reports *reporter, config *Config, metrics *coreMetrics) *judge {
	return &judge{
		members: m, reporter: reports, logger: config.Logger, metrics: metrics, errands: newErrands(compareLimit),
		probing: map[dems.NodeID]bool{},
	}
}

// right takes in that a node was right.
func (j *judge) right(id dems.NodeID, incarnation uint64) {
	if !j.struck.Load() {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.strikes.Right(id, incarnation) {
		j.metrics.strikes.WithLabelValues(string(id)).Set(0)
	}
	j.struck.Store(j.strikes.Any() > 0)
}

// wrong takes in that a node answered one request wrongly.
func (j *judge) wrong(id dems.NodeID, incarnation uint64, evidence voting.Evidence) {
	j.metrics.wrong.WithLabelValues(string(id)).Inc()
	j.mu.Lock()
	report, due := j.strikes.Wrong(id, incarnation, evidence, time.Now())
	j.metrics.strikes.WithLabelValues(string(id)).Set(float64(j.strikes.Of(id, incarnation)))
	j.struck.Store(true)
	j.mu.Unlock()
	if due {
		j.logger.Warn("a node answered wrongly", "node", id, "incarnation", incarnation, "strikes", report.Strikes,
			"expected", report.Expected, "answered", report.Answered, "indexes", report.Indexes)
		j.reporter.add(report)
	}
}

// prove takes in a log entry on which a node voted wrongly.
func (j *judge) prove(id dems.NodeID, incarnation, index uint64) {
	j.mu.Lock()
	report, due := j.strikes.Prove(id, incarnation, index, time.Now())
	j.mu.Unlock()
	if due {
		j.reporter.add(report)
	}
}

// strikesOf returns how many wrong answers in a row that life of a node has given.
func (j *judge) strikesOf(id dems.NodeID, incarnation uint64) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.strikes.Of(id, incarnation)
}

// ballot judges a node's ballot on a batch that is decided.
func (j *judge) ballot(f *flight, ballot *voting.Ballot) {
	view := j.members.view()
	if !view.electors.Counts(ballot.Node, ballot.Incarnation) {
		return
	}
	switch f.judge(ballot) {
	case voting.Right:
		if f.probing == nil {
			j.right(ballot.Node, ballot.Incarnation)
		}
	case voting.Wrong:
		expected, answered := f.decision.State.String(), ballot.State.String()
		if ballot.Contradicted {
			expected, answered = "results that its vote is for", "other ones"
		}
		for range f.commands {
			j.wrongVote(f, ballot, "state "+expected, "state "+answered)
		}
	case voting.Different:
		if ballot.Bytes != nil {
			j.compare(f, ballot, ballot.Bytes)
			return
		}
		n := view.find(ballot.Node)
		asked := *ballot
		j.errands.start(func(ctx context.Context) { j.compare(f, &asked, j.fetch(ctx, n, f, &asked)) })
	}
}

// fetch returns the results that a node voted for; nil where it does not hand them out.
func (j *judge) fetch(ctx context.Context, n *node, f *flight, ballot *voting.Ballot) []byte {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reply, err := n.replica.Results(ctx, f.session, f.number)
	if err != nil || dems.DigestOf(reply.Results) != ballot.Results {
		j.logger.Debug("results of a wrong vote", "node", ballot.Node, "batch", f.number, "error", err)
		return nil
	}
	return reply.Results
}

// compare counts which requests of a batch a node answered wrongly.
func (j *judge) compare(f *flight, ballot *voting.Ballot, results []byte) {
	for _, c := range f.decision.Compare(results) {
		switch {
		case c.Finding == voting.Wrong:
			j.wrongVote(f, ballot, describeResult(&c.Expected), describeResult(&c.Answered))
		case c.Finding == voting.Right && f.probing == nil:
			j.right(ballot.Node, ballot.Incarnation)
		}
	}
}

// wrongVote takes in that a node voted for a wrong result of one command. On a probe it is evidence, and no other request.
func (j *judge) wrongVote(f *flight, ballot *voting.Ballot, expected, answered string) {
	if f.probing != nil {
		j.prove(ballot.Node, ballot.Incarnation, f.decision.Index)
		return
	}
	j.wrong(ballot.Node, ballot.Incarnation, voting.Evidence{Index: f.decision.Index, Expected: expected, Answered: answered})
}

// wrongRead takes in that a node answered a read wrongly. Nodes keep no record of reads, so the same read is ordered through
// the log: there everybody votes on it.
func (j *judge) wrongRead(n *node, incarnation uint64, query *dems.Query, expected, answered []byte) {
	j.wrong(n.name(), incarnation, voting.Evidence{
		Expected: describeAnswer(query, expected), Answered: describeAnswer(query, answered),
	})
	if query.Kind != dems.OperationQuery {
		return
	}
	id, command := n.name(), query.Command
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.probing[id] {
		return
	}
	j.probing[id] = j.errands.start(func(ctx context.Context) {
		defer func() {
			j.mu.Lock()
			defer j.mu.Unlock()
			delete(j.probing, id)
		}()
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		if _, err := j.order(ctx, command, n); err != nil {
			j.logger.Debug("a read could not be ordered as evidence", "node", id, "error", err)
		}
	})
}

// describeResult says what a result is, for people, with enough of its digest that different ones look different.
func describeResult(result *dems.Result) string {
	encoded := dems.AppendResult(nil, result)
	text := &strings.Builder{}
	text.WriteString(strings.TrimSpace(result.Code.String() + " " + result.Outcome.String()))
	if result.Event != (dems.EventView{}) {
		fmt.Fprintf(text, " %s capacity %d booked %d", result.Event.Key.AppendText(nil), result.Event.Capacity, result.Event.Booked)
	}
	if result.Booking != (dems.EventKey{}) {
		fmt.Fprintf(text, " %s for %s", result.Booking.AppendText(nil), result.Customer.AppendText(nil))
	}
	if result.Sequence != 0 {
		fmt.Fprintf(text, " sequence %d", result.Sequence)
	}
	if n := len(result.Events) + len(result.Bookings) + len(result.Affected); n > 0 {
		fmt.Fprintf(text, " %d listed", n)
	}
	fmt.Fprintf(text, " (digest %.8s)", dems.DigestOf(encoded))
	return text.String()
}

// describeAnswer says what the answer to a read is.
func describeAnswer(query *dems.Query, encoded []byte) string {
	if query.Kind == dems.OperationQuery {
		if results, err := dems.DecodeResults(encoded); err == nil && len(results) == 1 {
			return describeResult(&results[0])
		}
	}
	return fmt.Sprintf("%d bytes (digest %.8s)", len(encoded), dems.DigestOf(encoded))
}
