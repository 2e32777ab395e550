package frontend

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dems"
	"dems/fsm"
)

// world is a cluster of fake nodes over one ordered log that all of them apply to machines of their own. It is as fast as
// function calls; whatever waits, waits for a change of the world or for its context.
type world struct {
	t     testing.TB
	delay func() time.Duration // of each half of a call; nil: none

	mu            sync.Mutex
	log           [][]byte // committed entries; log[i] has the index i+1
	pending       [][]byte // entries that a leader took and could not commit
	keepPending   bool     // whether the next leader commits them or loses them
	nodes         []*fakeNode
	leader        *fakeNode // nil: nobody leads
	term          uint64
	configuration uint64
	members       []dems.Member
	changed       chan struct{} // closed and replaced at every change
	dialled       map[string]int
	closed        map[string]int
	aliases       map[string]string                           // other addresses of nodes
	suspected     func(n *fakeNode, suspicion dems.Suspicion) // with mu held; nil: nothing happens
}

// reach says how a node answers the front end and its peers.
type reach int

const (
	up      reach = iota
	dead          // killed: nothing can be sent, calls in progress break
	hanging       // stopped: answers nothing, breaks nothing
	cut           // the front end cannot tell what became of its calls; the peers reach the node
	silent        // the front end gets no answers; the peers reach the node
)

// fakeNode is one node. What is not set by a test is honest.
type fakeNode struct {
	world   *world
	id      dems.NodeID
	address string
	lies    lies

	// Guarded by world.mu.
	reach    reach
	late     bool   // applies nothing until released
	life     uint64 // its incarnation
	unready  bool
	machine  *fsm.Machine
	reported map[[2]uint64]dems.BatchReply // by session and batch number: what the node says it got
	votes    []dems.Vote
	records  map[dems.City][][]byte
	states   []dems.Digest // after each entry
	queries  int           // calls of Query that reached it
	backups  int           // that it gave
	reports  []dems.Report
	suspects []dems.Suspicion
	statuses atomic.Int64 // calls of Status that reached it
}

// lies are what a node does instead of the right thing; each is nil or called without locks held.
type lies struct {
	results func(command int, result *dems.Result) // alters what it got, consistently
	vote    func(vote *dems.Vote)
	bytes   func(reply *dems.BatchReply) // what Propose and Results hand out
	answer  func(query *dems.Query, answer *dems.Answer)
	query   func(reply *dems.QueryReply)
	refuse  func(batch *dems.QueryBatch) error // instead of answering
	status  func(status *dems.NodeStatus)
	page    func(page *dems.CityLogPage)
	stateAt func(index uint64, digest *dems.Digest)
	part    func(number int, part *dems.BackupPart) error // alters a piece of a backup, or ends it
	propose func(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error)
	forward proposal // instead of asking the leader
	invents bool     // gives backups of indexes that it does not have
	keeps   bool     // hands out no results
	mute    bool     // sends no votes

	transfer bool // says that it hands leadership over, and does not
}

type proposal = func(ctx context.Context, entry []byte) (dems.BatchReply, error)

func newWorld(t testing.TB, nodes int) *world {
	w := &world{t: t, term: 1, configuration: 1, changed: make(chan struct{}), dialled: map[string]int{}, closed: map[string]int{}}
	for range nodes {
		w.addNode()
	}
	for _, n := range w.nodes {
		w.members = append(w.members, dems.Member{ID: n.id, Incarnation: 1, Address: n.address, Suffrage: dems.Voter})
		w.append(dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterNodeEntry, Registration: dems.Registration{
			ID: string(n.id), Address: n.address, Time: time.UnixMilli(0), Cities: dems.DefaultCities().String(),
		}}))
	}
	w.leader = w.nodes[0]
	return w
}

// delayBy has every half of a call take a random time below most, which is whole microseconds.
func (w *world) delayBy(random *rand.Rand, most time.Duration) {
	var drawing sync.Mutex
	w.delay = func() time.Duration {
		drawing.Lock()
		defer drawing.Unlock()
		return time.Duration(random.IntN(int(most/time.Microsecond))) * time.Microsecond
	}
}

// addNode adds a node that is no member yet. Callers hold mu, or nobody else knows the world.
func (w *world) addNode() *fakeNode {
	number := len(w.nodes) + 1
	n := &fakeNode{
		world: w, life: 1, id: dems.NodeID(fmt.Sprintf("n%d", number)), address: fmt.Sprintf("host%d:7000", number),
		machine: fsm.New(dems.DefaultCities()), reported: map[[2]uint64]dems.BatchReply{}, records: map[dems.City][][]byte{},
	}
	w.nodes = append(w.nodes, n)
	n.catchUp()
	return n
}

func (w *world) addresses() []string {
	var addresses []string
	for _, n := range w.nodes {
		addresses = append(addresses, n.address)
	}
	return addresses
}

// dial returns the replica at an address, whether or not anybody is there.
func (w *world) dial(address string) Replica {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialled[address]++
	return &fakeReplica{w, address}
}

// change makes a change and lets everything notice that waits for one.
func (w *world) change(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	w.notify()
}

func (w *world) notify() {
	for _, n := range w.nodes {
		n.catchUp()
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) set(n *fakeNode, r reach)       { w.change(func() { n.reach = r }) }
func (w *world) setLate(n *fakeNode, late bool) { w.change(func() { n.late = late }) }
func (w *world) tell(n *fakeNode, l lies)       { w.change(func() { n.lies = l }) }
func (w *world) length() int                    { w.mu.Lock(); defer w.mu.Unlock(); return len(w.log) }
func (w *world) retire(n *fakeNode, into reach) { w.change(func() { n.reach = into; w.leader = nil }) }
func (w *world) suspendLeadership() (old *fakeNode) {
	w.change(func() { old, w.leader = w.leader, nil })
	return old
}

// elect makes a node the leader. What the last one took and could not commit is committed or lost.
func (w *world) elect(n *fakeNode) {
	w.change(func() {
		w.term++
		w.leader = n
		pending := w.pending
		w.pending = nil
		if w.keepPending {
			for _, entry := range pending {
				w.append(entry)
			}
		}
	})
}

// quorum tells whether a majority of the members is there to commit. Callers hold mu.
func (w *world) quorum() bool {
	alive, voters := 0, 0
	for _, member := range w.members {
		if member.Suffrage != dems.Voter {
			continue
		}
		voters++
		for _, n := range w.nodes {
			if n.id == member.ID && n.reach != dead && n.reach != hanging {
				alive++
			}
		}
	}
	return alive > voters/2
}

// append commits an entry and returns its index. Callers hold mu.
func (w *world) append(entry []byte) uint64 {
	w.log = append(w.log, bytes.Clone(entry))
	w.notify()
	return uint64(len(w.log))
}

// catchUp applies what is committed, unless the node is late or gone. Callers hold mu.
func (n *fakeNode) catchUp() {
	for !n.late && n.reach != dead && n.reach != hanging && n.machine.Index() < uint64(len(n.world.log)) {
		index := n.machine.Index() + 1
		applied, err := n.machine.Apply(index, n.world.log[index-1])
		if err != nil {
			n.world.t.Errorf("%s: apply %d: %v", n.id, index, err)
			n.late = true
			return
		}
		n.states = append(n.states, applied.StateDigest)
		for _, record := range applied.Records {
			n.records[record.City] = append(n.records[record.City], record.Line)
		}
		if applied.Kind == dems.BatchEntry {
			n.report(index, &applied)
		} else if !n.lies.mute {
			n.votes = append(n.votes, dems.Vote{Node: n.id, Incarnation: n.life, Index: index, State: applied.StateDigest})
		}
	}
}

// report notes what the node got for a batch or, where it lies, what it says that it got. Callers hold mu.
func (n *fakeNode) report(index uint64, applied *fsm.Applied) {
	reply := dems.BatchReply{Results: applied.Results, Vote: dems.Vote{
		Node: n.id, Incarnation: n.life, Index: index, Session: applied.Session, Batch: applied.Batch,
		Results: applied.ResultDigest, State: applied.StateDigest,
	}}
	if n.lies.results != nil {
		results, err := dems.DecodeResults(applied.Results)
		if err != nil {
			n.world.t.Errorf("%s: own results: %v", n.id, err)
		}
		for i := range results {
			n.lies.results(i, &results[i])
		}
		reply.Results = dems.AppendResults(nil, results)
		reply.Vote.Results = dems.DigestOf(reply.Results)
	}
	if n.lies.vote != nil {
		n.lies.vote(&reply.Vote)
	}
	n.reported[[2]uint64{applied.Session, applied.Batch}] = reply // of a batch proposed twice what it got the last time
	if !n.lies.mute {
		n.votes = append(n.votes, reply.Vote)
	}
}

// fakeReplica is the way to a fake node.
type fakeReplica struct {
	world   *world
	address string
}

var errGone = &dems.ReplicaError{Kind: dems.UnknownOutcome}

// wait waits for a change of the world. Callers hold mu and hold it again afterwards.
func (w *world) wait(ctx context.Context) error {
	changed := w.changed
	w.mu.Unlock()
	defer w.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return &dems.ReplicaError{Kind: dems.UnknownOutcome, Err: ctx.Err()}
	}
}

// call runs one call of a node with mu held: do is called again and again until it is done or the node is gone.
func (r *fakeReplica) call(ctx context.Context, do func(n *fakeNode) (done bool, err error)) error {
	w := r.world
	if err := w.travel(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for sent := false; ; sent = true {
		n := w.at(r.address)
		switch {
		case ctx.Err() != nil:
			return &dems.ReplicaError{Kind: dems.UnknownOutcome, Err: ctx.Err()}
		case (n == nil || n.reach == dead) && !sent:
			return &dems.ReplicaError{Kind: dems.NotApplied}
		case n == nil || n.reach == dead || n.reach == cut:
			return errGone
		case n.reach == up:
			if done, err := do(n); done {
				w.mu.Unlock()
				late := w.travel(ctx)
				w.mu.Lock()
				if err == nil && n.reach != up {
					late = errGone
				}
				if late != nil {
					return late
				}
				return err
			}
		}
		if err := w.wait(ctx); err != nil {
			return err
		}
	}
}

// travel is the time that a message takes.
func (w *world) travel(ctx context.Context) error {
	if w.delay == nil {
		return nil
	}
	timer := time.NewTimer(w.delay())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return &dems.ReplicaError{Kind: dems.UnknownOutcome, Err: ctx.Err()}
	}
}

// at returns the node at an address. Callers hold mu.
func (w *world) at(address string) *fakeNode {
	if other, ok := w.aliases[address]; ok {
		address = other
	}
	for _, n := range w.nodes {
		if n.address == address {
			return n
		}
	}
	return nil
}

func (r *fakeReplica) Close() error {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	r.world.closed[r.address]++
	return nil
}

func (r *fakeReplica) Propose(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	r.world.mu.Lock()
	n := r.world.at(r.address)
	var lie func(context.Context, []byte, proposal) (dems.BatchReply, error)
	if n != nil && n.reach == up {
		lie = n.lies.propose
	}
	r.world.mu.Unlock()
	if lie != nil {
		return lie(ctx, entry, r.propose)
	}
	return r.propose(ctx, entry)
}

// Forward implements Replica: the node asks whoever leads, whom it may reach though the front end does not.
func (r *fakeReplica) Forward(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	r.world.mu.Lock()
	n := r.world.at(r.address)
	forward := r.forward
	if n != nil && n.reach == up && n.lies.forward != nil {
		forward = n.lies.forward
	}
	r.world.mu.Unlock()
	return forward(ctx, entry)
}

func (r *fakeReplica) forward(ctx context.Context, entry []byte) (reply dems.BatchReply, err error) {
	o, err := newOrdering(entry)
	if err != nil {
		return reply, err
	}
	err = r.call(ctx, func(n *fakeNode) (bool, error) {
		if leader := n.world.leader; o.leader == nil {
			switch {
			case leader == nil:
				return true, &dems.ReplicaError{Kind: dems.NotLeader}
			case leader.reach == dead:
				return true, &dems.ReplicaError{Kind: dems.NotApplied}
			case leader.reach == hanging || leader.lies.propose != nil:
				return false, nil
			}
			o.leader = leader
		}
		return n.answer(o, &reply)
	})
	return reply, err
}

// ordering is an entry at a leader, which has an index once it is committed.
type ordering struct {
	entry       []byte
	batch       [2]uint64 // session and number
	leader      *fakeNode
	term, index uint64
}

func newOrdering(entry []byte) (*ordering, error) {
	decoded, err := dems.DecodeEntry(entry)
	if err != nil {
		return nil, &dems.ReplicaError{Kind: dems.BadRequest, Err: err}
	}
	return &ordering{entry: entry, batch: [2]uint64{decoded.Batch.Session, decoded.Batch.Number}}, nil
}

// answer goes on with an entry and, once the node has applied it, returns what the node got. Callers hold mu.
func (n *fakeNode) answer(o *ordering, reply *dems.BatchReply) (done bool, err error) {
	if err := n.world.order(o); err != nil {
		return true, err
	}
	if o.index == 0 || n.machine.Index() < o.index {
		return false, nil
	}
	*reply = n.reported[o.batch]
	return true, nil
}

// order goes on with an entry: at first the leader takes it. One that it cannot commit is lost or kept when the leader changes.
// Callers hold mu.
func (w *world) order(o *ordering) error {
	switch {
	case o.index > 0:
	case o.term == 0:
		if o.term = w.term; w.quorum() {
			o.index = w.append(o.entry)
		} else {
			w.pending = append(w.pending, bytes.Clone(o.entry))
		}
	case w.term != o.term:
		return errGone
	case w.quorum() && w.leader == o.leader:
		for _, entry := range w.pending {
			o.index = w.append(entry)
		}
		w.pending = nil
	}
	return nil
}

func (r *fakeReplica) propose(ctx context.Context, entry []byte) (reply dems.BatchReply, err error) {
	o, err := newOrdering(entry)
	if err != nil {
		return reply, err
	}
	var alter func(*dems.BatchReply)
	err = r.call(ctx, func(n *fakeNode) (bool, error) {
		if w := n.world; o.leader == nil {
			if w.leader != n {
				refusal := &dems.ReplicaError{Kind: dems.NotLeader}
				if w.leader != nil {
					refusal.Leader = w.leader.id
				}
				return true, refusal
			}
			o.leader = n
		}
		done, err := n.answer(o, &reply)
		if done && err == nil {
			alter = n.lies.bytes
		}
		return done, err
	})
	if alter != nil {
		alter(&reply)
	}
	return reply, err
}

func (r *fakeReplica) Results(ctx context.Context, session, batch uint64) (reply dems.BatchReply, err error) {
	var alter func(*dems.BatchReply)
	err = r.call(ctx, func(n *fakeNode) (done bool, err error) {
		if n.lies.keeps {
			return true, errGone
		}
		if reply, done = n.reported[[2]uint64{session, batch}]; !done {
			return true, &dems.ReplicaError{Kind: dems.NotReady}
		}
		alter = n.lies.bytes
		return true, nil
	})
	if alter != nil {
		alter(&reply)
	}
	return reply, err
}

func (r *fakeReplica) Votes(ctx context.Context, session uint64, receive func([]dems.Vote) error) error {
	sent, first := 0, true
	for {
		var votes []dems.Vote
		err := r.call(ctx, func(n *fakeNode) (bool, error) {
			if first { // recent votes of the session only
				first, sent = false, len(n.votes)
				for _, vote := range n.votes {
					if vote.Session == session {
						votes = append(votes, vote)
					}
				}
				votes = votes[max(0, len(votes)-16):]
			} else {
				votes = append(votes, n.votes[sent:]...)
				sent = len(n.votes)
			}
			return len(votes) > 0, nil
		})
		if err != nil {
			return err
		}
		if err := receive(votes); err != nil {
			return err
		}
	}
}

func (r *fakeReplica) Query(ctx context.Context, batch dems.QueryBatch) (reply dems.QueryReply, err error) {
	var lie lies
	counted := false
	err = r.call(ctx, func(n *fakeNode) (bool, error) {
		if !counted {
			counted = true
			n.queries++
		}
		if n.unready {
			return true, &dems.ReplicaError{Kind: dems.NotReady}
		}
		if n.lies.refuse != nil {
			if err := n.lies.refuse(&batch); err != nil {
				return true, err
			}
		}
		if n.machine.Index() < batch.MinIndex {
			return false, nil
		}
		reply = dems.QueryReply{Node: n.id, Incarnation: n.life, Applied: n.machine.Index()}
		for i := range batch.Queries {
			reply.Answers = append(reply.Answers, n.machine.Query(&batch.Queries[i]))
		}
		lie = n.lies
		return true, nil
	})
	for i := range reply.Answers {
		if lie.answer != nil {
			lie.answer(&batch.Queries[i], &reply.Answers[i])
		}
	}
	if lie.query != nil {
		lie.query(&reply)
	}
	return reply, err
}

func (r *fakeReplica) Status(ctx context.Context) (status dems.NodeStatus, err error) {
	var alter func(*dems.NodeStatus)
	err = r.call(ctx, func(n *fakeNode) (bool, error) {
		w := n.world
		n.statuses.Add(1)
		status = dems.NodeStatus{
			ID: n.id, Incarnation: n.life, Address: n.address, Ready: !n.unready, Term: w.term, Applied: n.machine.Index(),
			Digest: n.machine.Digest(), Configuration: w.configuration, Members: append([]dems.Member(nil), w.members...),
		}
		if w.leader != nil {
			status.Leader = w.leader.id
		}
		alter = n.lies.status
		return true, nil
	})
	if alter != nil {
		alter(&status)
	}
	return status, err
}

func (r *fakeReplica) CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (page dems.CityLogPage, err error) {
	var alter func(*dems.CityLogPage)
	err = r.call(ctx, func(n *fakeNode) (bool, error) {
		records := n.records[city]
		page = dems.CityLogPage{First: first, Total: uint64(len(records))}
		for at := first; at < page.Total && len(page.Records)+len(records[at]) <= maxBytes; at++ {
			page.Records = append(page.Records, records[at]...)
		}
		alter = n.lies.page
		return true, nil
	})
	if alter != nil {
		alter(&page)
	}
	return page, err
}

func (r *fakeReplica) Transfer(ctx context.Context, to dems.NodeID) error {
	return r.call(ctx, func(n *fakeNode) (bool, error) {
		w := n.world
		if w.leader != n {
			return true, &dems.ReplicaError{Kind: dems.NotLeader}
		}
		if n.lies.transfer {
			return true, nil
		}
		for _, other := range w.nodes {
			if other != n && (to == "" || other.id == to) {
				w.term++
				w.leader = other
				w.notify()
				return true, nil
			}
		}
		return true, &dems.ReplicaError{Kind: dems.BadRequest}
	})
}

func (r *fakeReplica) Report(ctx context.Context, report dems.Report) error {
	return r.call(ctx, func(n *fakeNode) (bool, error) {
		n.reports = append(n.reports, report)
		return true, nil
	})
}

// Suspect notes the suspicion. What becomes of it is for the test.
func (r *fakeReplica) Suspect(ctx context.Context, suspicion dems.Suspicion) (opinion dems.Opinion, err error) {
	err = r.call(ctx, func(n *fakeNode) (bool, error) {
		n.suspects = append(n.suspects, suspicion)
		opinion = dems.Opinion{Term: n.world.term, LastIndex: n.machine.Index()}
		if n.world.suspected != nil {
			n.world.suspected(n, suspicion)
		}
		return true, nil
	})
	return opinion, err
}

func (r *fakeReplica) Replace(ctx context.Context, id dems.NodeID) error { return nil }

func (r *fakeReplica) Inject(ctx context.Context, fault dems.Fault) error { return nil }
