package frontend

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"dems"
	"dems/internal/planted"
)

const (
	// laneLimit is how many reads may wait for one node; beyond it this node is not asked. A majority still can answer.
	laneLimit = 8192
	// laneRequests is how many requests may be on their way to one node at once. While they are, the next one fills.
	laneRequests = 1
	// laneTimeout bounds one request to one node.
	laneTimeout = 2 * time.Second
	// meetTimeout bounds the wait of a late node for the version that others answered with.
	meetTimeout = 250 * time.Millisecond
	// meetLimit is how many nodes may be asked again at once, over all reads.
	meetLimit = 256
	// readPatience is how long a read waits for a majority that agrees before it is ordered through the log.
	readPatience = 400 * time.Millisecond
	// lateLimit is how many reads may wait for a node for it to be asked for those, too, that the others have decided meanwhile: its
	// answer is only compared, and one that is wrong is to be noticed. A node that is further behind is not kept busy with them.
	lateLimit = 16
	// keptBytes is the largest answer that is kept for that. What waits for a node that does not answer holds so much.
	keptBytes = 1 << 10
	// maxRounds is how often nodes are asked again before a read is ordered through the log.
	maxRounds = 3
)

// reader answers reads without the leader: every voter is asked, and what a majority answers for the same version is the
// answer. Since a write is acknowledged only when a majority has applied it, any majority contains a node that knows
// every acknowledged write; so such a read is linearizable. A node with a lower version is late and asked again; a node
// with the same version and another answer is wrong.
//
// It runs one goroutine for each node and one for each request on its way; run waits for all of them.
type reader struct {
	members  *members
	proposer *proposer
	logger   *slog.Logger
	metrics  *coreMetrics
	meets    chan struct{} // a token for each node that may be asked again at once

	ended chan struct{} // closed when run's context has ended: nobody is asked any more

	mu    sync.Mutex
	ctx   context.Context // lanes live as long as it; nil before run and after
	group sync.WaitGroup
	lanes map[*node]*lane
}

func newReader(m *members, p *proposer, config *Config, metrics *coreMetrics) *reader {
	return &reader{
		members: m, proposer: p, logger: config.Logger, metrics: metrics,
		meets: make(chan struct{}, meetLimit), ended: make(chan struct{}), lanes: map[*node]*lane{},
	}
}

// run lets lanes start, waits until the context ends and then for every goroutine of the reader.
func (r *reader) run(ctx context.Context) error {
	r.mu.Lock()
	r.ctx = ctx
	for n, l := range r.lanes {
		r.group.Go(func() { r.drive(ctx, n, l) })
	}
	r.mu.Unlock()
	<-ctx.Done()
	r.mu.Lock()
	r.ctx = nil // nothing starts any more
	r.mu.Unlock()
	close(r.ended)
	r.group.Wait()
	return nil
}

// reading is one read and the nodes' answers to it.
type reading struct {
	query  dems.Query
	enough int           // equal answers that decide: a majority
	wake   chan struct{} // told that an answer came, when there are enough; holds one

	mu      sync.Mutex
	decided bool
	asked   int          // nodes that have the question and have not answered
	answers []nodeAnswer // at most one per node
	right   *dems.Answer // the majority's, while more answers may come, or if it is small; nil: there is none to compare with
}

type nodeAnswer struct {
	node        *node
	incarnation uint64
	applied     uint64
	answer      dems.Answer
	meeting     uint64 // the version for which the node is being asked again; 0: it is not
}

// answer takes in a node's answer in place of an earlier one. One that comes when the reading is decided is handed back, with
// the majority's that it is to be compared with; nil where there is none.
func (q *reading) answer(got nodeAnswer) (right *dems.Answer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.decided {
		return q.right
	}
	if at := slices.IndexFunc(q.answers, func(a nodeAnswer) bool { return a.node == got.node }); at < 0 {
		q.answers = append(q.answers, got)
	} else {
		q.answers[at] = got
	}
	if len(q.answers) >= q.enough {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// ask takes the reading along to a node; false where it is decided, unless a late answer is wanted and can be compared.
func (q *reading) ask(late bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := !q.decided || late && q.right != nil
	if taken {
		q.asked++
	}
	return taken
}

// returned takes in that a node that had the question has answered, or will not. When all have, what is large is let go of.
func (q *reading) returned() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.asked--; q.asked == 0 && q.decided && !isSmall(q.right) {
		q.right = nil
	}
}

func isSmall(answer *dems.Answer) bool { return answer != nil && len(answer.Result) <= keptBytes }

// decide ends the reading, with a majority's answer or, nil, without one. It returns all answers that came. Lanes may hold
// the reading for a while, but of the answers no more than a small one.
func (q *reading) decide(right *dems.Answer) []nodeAnswer {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.decided {
		return nil
	}
	answers := q.answers
	q.decided, q.answers = true, nil
	switch {
	case isSmall(right): // by itself: the message that it came in may be large
		q.right = &dems.Answer{Version: right.Version, Result: bytes.Clone(right.Result)}
	case q.asked > 0:
		q.right = right
	}
	return answers
}

func (q *reading) isDecided() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.decided
}

// judge compares a node's answer with the majority's. One of another version says nothing: its node is late, or ahead.
func (r *reader) judge(q *reading, got *nodeAnswer, right *dems.Answer) {
	switch {
	case right == nil || got.answer.Version != right.Version || !r.members.view().hears(got.node, got.node.name(), got.incarnation):
	case bytes.Equal(got.answer.Result, right.Result):
		r.proposer.judge.right(got.node.name(), got.incarnation)
	default:
		r.proposer.judge.wrongRead(got.node, got.incarnation, &q.query, right.Result, got.answer.Result)
	}
}

// read returns what a majority answers to a query, and at which log index it holds.
func (r *reader) read(ctx context.Context, query dems.Query) (result []byte, reply Reply, err error) {
	view, err := r.awaitVoters(ctx)
	if err != nil {
		return nil, Reply{}, err
	}
	q := &reading{
		query: query, enough: view.majority(), wake: make(chan struct{}, 1), answers: make([]nodeAnswer, 0, len(view.voters)),
	}
	if planted.Has(planted.StaleRead) {
		q.enough = 1
	}
	defer q.decide(nil)
	for _, n := range view.voters {
		r.enqueue(n, q)
	}
	impatient := time.NewTimer(readPatience)
	defer impatient.Stop()
	var meeting context.Context // of the questions to late nodes, which end with the reading
	for rounds := 0; ; {
		select {
		case <-q.wake:
			if right, reply, ok := q.tally(view); ok {
				raise(&r.proposer.acknowledged, reply.Sequence)
				for _, got := range q.decide(&right) {
					r.judge(q, &got, &right)
				}
				return right.Result, reply, nil
			}
			late, version := q.late(view)
			if len(late) == 0 {
				continue
			}
			if rounds++; rounds > maxRounds {
				return nil, Reply{}, errUndecided
			}
			if meeting == nil {
				var cancel context.CancelFunc
				meeting, cancel = context.WithCancel(ctx)
				defer cancel()
			}
			r.metrics.rounds.Inc()
			r.meet(meeting, late, q, version)
		case <-impatient.C:
			return nil, Reply{}, errUndecided
		case <-ctx.Done():
			return nil, Reply{}, &dems.Error{Code: dems.Unavailable}
		case <-r.ended:
			return nil, Reply{}, &dems.Error{Code: dems.Unavailable}
		}
	}
}

// awaitVoters returns the picture of the cluster as soon as it is known who votes.
func (r *reader) awaitVoters(ctx context.Context) (*view, error) {
	view, changed := r.members.watch()
	for len(view.voters) == 0 {
		r.members.refresh()
		if !pause(ctx, changed, 10*retryPause) || r.isEnded() {
			return nil, &dems.Error{Code: dems.Unavailable}
		}
		view, changed = r.members.watch()
	}
	return view, nil
}

func (r *reader) isEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

var errUndecided = errors.New("no majority gave the same answer for the same version")

// tally returns the answer that a majority of the voters gave for one version. It holds at that version and at every index
// up to what any of them that is right has applied. What a single one says that it applied is not believed: the least that
// they say is either true or less than the truth, and the version is true.
func (q *reading) tally(v *view) (dems.Answer, Reply, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.answers {
		candidate := &q.answers[i].answer
		agreeing, sequence := 0, uint64(math.MaxUint64)
		for j := range q.answers {
			other := &q.answers[j]
			if other.answer.Version == candidate.Version && bytes.Equal(other.answer.Result, candidate.Result) {
				agreeing++
				sequence = min(sequence, other.applied)
			}
		}
		if agreeing >= q.enough {
			sequence = max(sequence, candidate.Version)
			return *candidate, Reply{Sequence: sequence, Agreeing: agreeing, Asked: len(v.voters)}, true
		}
	}
	return dems.Answer{}, Reply{}, false
}

// late returns the nodes whose version is lower than one that a correct node has, and that version, and notes that they are
// being asked for it. A wrong node may claim any version, so one claim is not believed: of n nodes f may be wrong, those
// that did not answer first among them, and the highest version but as many as may still be wrong is one that a correct
// node has, or less.
func (q *reading) late(v *view) ([]*node, uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.answers) < v.majority() {
		return nil, 0
	}
	versions := make([]uint64, len(q.answers))
	for i := range q.answers {
		versions[i] = q.answers[i].answer.Version
	}
	slices.Sort(versions)
	slices.Reverse(versions)
	tolerated := len(v.voters) - v.majority()
	doubtful := max(0, tolerated-(len(v.voters)-len(q.answers)))
	version := versions[min(doubtful, len(versions)-1)]
	var late []*node
	for i := range q.answers {
		if a := &q.answers[i]; a.answer.Version < version && a.meeting != version {
			a.meeting = version
			late = append(late, a.node)
		}
	}
	return late, version
}

// meet asks late nodes again, each in a request of its own, so that a claim that never comes true holds up nobody else.
func (r *reader) meet(ctx context.Context, late []*node, q *reading, version uint64) {
	for _, n := range late {
		select {
		case r.meets <- struct{}{}:
		default:
			continue
		}
		started := r.start(func(lanes context.Context) {
			defer func() { <-r.meets }()
			ctx, cancel := context.WithTimeout(ctx, meetTimeout)
			defer cancel()
			stop := context.AfterFunc(lanes, cancel)
			defer stop()
			query := q.query
			query.Log = false
			reply, err := n.replica.Query(ctx, dems.QueryBatch{MinIndex: version, Queries: []dems.Query{query}})
			if err == nil && len(reply.Answers) == 1 {
				r.take(n, &reply, []*reading{q})
			}
		})
		if !started {
			<-r.meets
		}
	}
}

// start runs a goroutine that ends with the reader; false when the reader has ended.
func (r *reader) start(run func(ctx context.Context)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil {
		return false
	}
	ctx := r.ctx
	r.group.Go(func() { run(ctx) })
	return true
}

// lane is the way to one node: reads wait here while requests are on their way, and go together.
type lane struct {
	queue chan *reading
}

// enqueue adds a read to a node's lane. Where the lane is full the node is not asked.
func (r *reader) enqueue(n *node, q *reading) {
	r.mu.Lock()
	l := r.lanes[n]
	if l == nil {
		l = &lane{queue: make(chan *reading, laneLimit)}
		r.lanes[n] = l
		if ctx := r.ctx; ctx != nil {
			r.group.Go(func() { r.drive(ctx, n, l) })
		}
	}
	r.mu.Unlock()
	select {
	case l.queue <- q:
	default:
		r.metrics.laneFull.Inc()
	}
}

// drive sends what waits in a lane until the context ends.
func (r *reader) drive(ctx context.Context, n *node, l *lane) {
	var group sync.WaitGroup
	defer group.Wait()
	requests := make(chan struct{}, laneRequests)
	for {
		select {
		case <-ctx.Done():
			return
		case requests <- struct{}{}:
		}
		readings := l.collect(ctx)
		if readings == nil {
			return
		}
		group.Go(func() {
			defer func() { <-requests }()
			r.ask(ctx, n, readings)
		})
	}
}

// collect waits for a read and returns all that wait then, up to one request: of those that are decided only the last few.
func (l *lane) collect(ctx context.Context) []*reading {
	var readings []*reading
	add := func(q *reading) {
		if q.ask(len(l.queue) < lateLimit) {
			readings = append(readings, q)
		}
	}
	for len(readings) == 0 {
		select {
		case <-ctx.Done():
			return nil
		case q := <-l.queue:
			add(q)
		}
	}
	for len(readings) < dems.MaxQueries {
		select {
		case q := <-l.queue:
			add(q)
		default:
			return readings
		}
	}
	return readings
}

// take takes in a node's answers to some reads; false where they are not the word of a voter, in its present life.
func (r *reader) take(n *node, reply *dems.QueryReply, readings []*reading) bool {
	if !r.members.view().hears(n, reply.Node, reply.Incarnation) {
		return false
	}
	for i, q := range readings {
		got := nodeAnswer{node: n, incarnation: reply.Incarnation, applied: reply.Applied, answer: reply.Answers[i]}
		if right := q.answer(got); right != nil {
			r.judge(q, &got, right)
		}
	}
	return true
}

// ask asks a node for the answers to some reads. When that fails the node is asked again as long as a read is undecided.
func (r *reader) ask(ctx context.Context, n *node, readings []*reading) {
	defer func() {
		for _, q := range readings {
			q.returned()
		}
	}()
	r.question(ctx, n, readings)
}

// question asks a node for the answers to some reads, once for all of them where that is possible.
func (r *reader) question(ctx context.Context, n *node, readings []*reading) {
	batch := dems.QueryBatch{MinIndex: r.proposer.acknowledged.Load(), Queries: make([]dems.Query, len(readings))}
	for i, q := range readings {
		batch.Queries[i] = q.query
	}
	if planted.Has(planted.StaleRead) {
		batch.MinIndex = 0
	}
	request, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	reply, err := n.replica.Query(request, batch)
	if err == nil && len(reply.Answers) == len(readings) && r.take(n, &reply, readings) {
		return
	}
	r.logger.Debug("query failed", "node", n.address, "error", err)
	refused, ok := errors.AsType[*dems.ReplicaError](err)
	if ok && refused.Kind == dems.BadRequest && len(readings) > 1 { // the answers may be too large together
		half := len(readings) / 2
		r.question(ctx, n, readings[:half])
		r.question(ctx, n, readings[half:])
		return
	}
	r.members.refresh()
	if !pause(ctx, nil, 5*retryPause) {
		return
	}
	for _, q := range readings {
		if !q.isDecided() {
			r.enqueue(n, q)
		}
	}
}
