package simulation

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"dems"
	"dems/fsm"
)

// node is one node: what is on its disk, and what its process knows while it runs.
type node struct {
	party
	number int

	// On its disk.
	incarnation uint64
	leaving     bool   // an operator has asked for its replacement
	stored      uint64 // the last entry of its log
	compacted   uint64 // the last entry that its log does not hold any more
	snapshot    *saved

	// In memory.
	machine       *fsm.Machine
	position      uint64 // the last entry that was applied, or skipped because it is Raft's
	configuration uint64 // the last that was applied; 0: none
	goal          uint64 // what its log ended with at the start
	fresh         bool   // it started emptied
	ready         bool
	leads         bool // as far as it knows
	following     bool // it is about to look for entries
	installing    bool
	snapshotting  bool
	ring          []ballot
	history       map[uint64]dems.Digest
	waiting       []waiter // who waits for entries to be applied
	fault         fault
	manager       *manager
}

// saved is a snapshot on a disk.
type saved struct {
	index         uint64 // of the last entry
	configuration uint64
	digest        dems.Digest
	data          []byte
}

// ballot is a node's vote with the results.
type ballot struct {
	vote    dems.Vote
	results []byte
}

type waiter struct {
	index uint64
	then  func()
}

const tickInterval = 250 * time.Millisecond

func newNode(w *world, number int) *node {
	return &node{
		party:  party{world: w, name: dems.NodeID(fmt.Sprintf("n%d", number+1))},
		number: number, incarnation: 1,
	}
}

func (n *node) title() string { return fmt.Sprintf("%s.%d", n.name, n.incarnation) }

// start starts a process from what is on the disk.
func (n *node) start() {
	n.up, n.hangs, n.leads, n.backlog = true, false, false, nil
	n.starts++
	n.machine = fsm.New(dems.DefaultCities())
	n.position, n.configuration, n.history = 0, 0, make(map[uint64]dems.Digest)
	if n.snapshot != nil {
		n.load(n.snapshot)
	}
	n.goal = n.stored
	n.fresh = n.incarnation > 1 && n.stored == 0
	n.ready, n.following, n.installing, n.snapshotting = !n.fresh && n.position >= n.goal, false, false, false
	n.ring, n.waiting, n.fault = nil, nil, fault{}
	n.manager = newManager(n)
	for _, other := range n.world.nodes {
		if other != n && other.manager != nil {
			other.manager.broken[n.number] = true
		}
	}
	n.world.trace("%s starts at %d, with a log to %d", n.title(), n.position, n.stored)
	n.after(n.world.between(0, tickInterval), n.tick)
	n.follow(n.world.delay())
}

// crash ends the process.
func (n *node) crash() {
	n.up = false
	n.backlog = nil
	if n.world.log.leader == n {
		n.world.log.leader = nil
	}
	n.leads = false
}

// load makes a snapshot the state.
func (n *node) load(s *saved) {
	machine, err := fsm.Restore(bytes.NewReader(s.data), dems.DefaultCities())
	if err != nil {
		n.world.fail("%s cannot read its own snapshot: %v", n.title(), err)
		return
	}
	n.machine, n.position, n.configuration = machine, s.index, s.configuration
	n.history[machine.Index()] = machine.Digest()
	n.world.inspect(n)
}

// store notes that the log is on the disk up to an index.
func (n *node) store(index uint64) {
	if !n.installing && n.stored+1 == index {
		n.stored = index
	}
}

// follow has the node look for entries soon.
func (n *node) follow(delay time.Duration) {
	if n.following || !n.up {
		return
	}
	n.following = true
	n.after(delay, func() {
		n.following = false
		n.catchUp()
	})
}

// catchUp gets what the leader has and applies it.
func (n *node) catchUp() {
	w, leader := n.world, n.world.log.leader
	if leader == nil || n.installing || leader != n && (leader.hangs || !n.reaches(&leader.party)) {
		return
	}
	if leader != n {
		if _, member := memberOf(w.members(), n.name, n.incarnation); !member {
			return
		}
		if n.stored < leader.compacted {
			n.install(leader)
			return
		}
		n.stored = w.last()
	}
	target := n.stored
	if !w.healing && w.chance(15) {
		target = n.position + uint64(w.random.Int64N(int64(target-n.position)+1))
	}
	if n.position < target {
		n.apply(target)
	}
	if n.position < w.last() {
		n.follow(w.delay())
	}
}

// apply applies entries of the log.
func (n *node) apply(to uint64) {
	w := n.world
	var votes []dems.Vote
	told := false
	for n.position < to {
		index := n.position + 1
		n.position = index
		e := &w.log.entries[index-1]
		if e.data == nil && e.members == nil {
			continue
		}
		var applied fsm.Applied
		var err error
		if e.members != nil {
			applied, err = n.machine.ApplyConfiguration(index, e.members)
			n.configuration = index
		} else {
			applied, err = n.machine.Apply(index, e.data)
		}
		if err != nil {
			n.breakDown(index, err)
			return
		}
		told = told || applied.Kind != dems.BatchEntry
		b := n.ballot(index, &applied)
		w.inspectBallot(n, &b, &applied)
		n.history[index] = applied.StateDigest
		n.ring = append(n.ring, b)
		votes = append(votes, b.vote)
	}
	w.trace("%s has applied to %d: %.8s", n.title(), n.position, n.machine.Digest())
	n.advance()
	n.publish(votes)
	if told {
		n.manager.told()
	}
}

// breakDown ends a node whose state contradicts itself, which only that of a wrong one may.
func (n *node) breakDown(index uint64, err error) {
	w := n.world
	if !w.deedsOf(n).state {
		w.fail("%s cannot apply entry %d: %v", n.title(), index, err)
		return
	}
	w.trace("%s cannot go on at %d: %s", n.title(), index, err.Error())
	n.crash()
	w.after(w.between(100*time.Millisecond, 400*time.Millisecond), n.start)
}

// advance takes in that entries were applied.
func (n *node) advance() {
	if !n.ready && !n.fresh && n.position >= n.goal {
		n.becomeReady()
	}
	waiting := n.waiting
	n.waiting = nil
	for _, each := range waiting {
		if each.index <= n.machine.Index() {
			each.then()
		} else {
			n.waiting = append(n.waiting, each)
		}
	}
}

func (n *node) becomeReady() {
	n.ready = true
	n.world.trace("%s is ready at %d", n.title(), n.position)
}

// ballot makes the node's vote for an entry, a wrong one if it is to be wrong.
func (n *node) ballot(index uint64, applied *fsm.Applied) ballot {
	b := ballot{results: applied.Results, vote: dems.Vote{
		Node: n.name, Incarnation: n.incarnation, Index: index, Session: applied.Session, Batch: applied.Batch,
		Results: applied.ResultDigest, State: applied.StateDigest,
	}}
	if applied.Kind == dems.BatchEntry {
		n.fault.spoil(n, applied.Commands, &b)
	}
	return b
}

// publish tells everybody the node's votes.
func (n *node) publish(votes []dems.Vote) {
	if len(votes) == 0 {
		return
	}
	n.manager.add(votes)
	for _, other := range n.world.nodes {
		if other == n {
			continue
		}
		if n.fault.kind == mute || !n.send(&other.party, func() { other.manager.add(votes) }) {
			other.manager.broken[n.number] = true
		}
	}
	for _, f := range n.world.frontEnds {
		if n.fault.kind != mute && slices.ContainsFunc(votes, func(v dems.Vote) bool { return v.Session == f.session }) {
			n.send(&f.party, func() { f.receive(n, votes) })
		}
	}
}

// members returns the newest configuration that the node knows, and its index.
func (n *node) members() ([]dems.Member, uint64) {
	known := n.configuration
	if !n.ready { // the last one in its log
		for index := min(n.stored, n.goal); index > max(known, n.compacted); index-- {
			if n.world.log.entries[index-1].members != nil {
				known = index
				break
			}
		}
	}
	if known == 0 {
		return nil, 0
	}
	return n.world.log.entries[known-1].members, known
}

func (n *node) isVoter() bool {
	members, _ := n.members()
	return isVoter(members, n.name, n.incarnation)
}

// leader returns who leads as far as the node knows, or nil. Who is no member hears from no leader.
func (n *node) leader() *node {
	leader := n.world.log.leader
	if n.leads {
		return n
	}
	if _, member := memberOf(n.world.members(), n.name, n.incarnation); !member || leader == nil || !n.reaches(&leader.party) {
		return nil
	}
	return leader
}

// status is what the node says of itself and of the cluster.
func (n *node) status() dems.NodeStatus {
	members, configuration := n.members()
	status := dems.NodeStatus{
		ID: n.name, Incarnation: n.incarnation, Fresh: n.fresh && n.position == 0, Ready: n.ready, Term: n.world.log.term,
		Applied: n.machine.Index(), Digest: n.machine.Digest(), Configuration: configuration, Members: members,
		Standings: n.machine.Standings(),
	}
	if leader := n.leader(); leader != nil {
		status.Leader = leader.name
	}
	n.fault.spoilStatus(n, &status)
	return status
}

// order has an entry put into the log, if the node leads, and answers when it has applied it.
func (n *node) order(data []byte, reply func(ordered, bool)) {
	if !n.leads {
		reply(ordered{}, false)
		return
	}
	n.world.propose(n, pending{entry: entry{data: data}, done: func(index uint64, committed bool) {
		if !committed {
			reply(ordered{}, false)
			return
		}
		n.await(index, func() {
			at := slices.IndexFunc(n.ring, func(b ballot) bool { return b.vote.Index == index })
			if at >= 0 {
				reply(ordered{n.ring[at], true}, true)
			}
		})
	}})
}

// ordered is the answer to a proposal.
type ordered struct {
	ballot
	there bool
}

// await does something as soon as the state has an index.
func (n *node) await(index uint64, then func()) {
	if n.machine.Index() >= index {
		then()
		return
	}
	n.waiting = append(n.waiting, waiter{index, then})
}

// results returns what the node got for a batch.
func (n *node) results(session, number uint64) (ballot, bool) {
	for _, b := range slices.Backward(n.ring) {
		if b.vote.Session == session && b.vote.Batch == number && b.results != nil {
			return b, true
		}
	}
	b := ballot{vote: dems.Vote{Node: n.name, Incarnation: n.incarnation, Session: session, Batch: number}}
	var found bool
	b.vote.Index, b.results, b.vote.Results, found = n.machine.Batch(session, number)
	return b, found
}

// query answers a read when the node has applied an index.
func (n *node) query(minimum uint64, query *dems.Query, reply func(dems.QueryReply, bool)) {
	if !n.ready || !n.isVoter() {
		reply(dems.QueryReply{}, false)
		return
	}
	n.await(minimum, func() {
		answer := dems.QueryReply{
			Node: n.name, Incarnation: n.incarnation, Applied: n.machine.Index(), Answers: []dems.Answer{n.machine.Query(query)},
		}
		n.fault.spoilReply(n, query, &answer)
		reply(answer, true)
	})
}

// stateAt returns the digest of the state at an index.
func (n *node) stateAt(index uint64) (dems.Digest, bool) {
	digest, known := n.history[index]
	return digest, known
}

// tick is what a node does from time to time.
func (n *node) tick() {
	w := n.world
	n.after(tickInterval, n.tick)
	if !n.ready {
		n.askReadIndex()
	}
	if w.random.IntN(8) == 0 && n.machine.Index() > 0 {
		n.audit()
	}
	n.manager.tick()
}

// audit votes for the state that the node is in, with no entry to vote on.
func (n *node) audit() {
	vote := dems.Vote{Node: n.name, Incarnation: n.incarnation, Index: n.machine.Index(), State: n.machine.Digest()}
	n.ring = append(n.ring, ballot{vote: vote})
	n.publish([]dems.Vote{vote})
}

// askReadIndex asks the leader for an index that covers everything acknowledged.
func (n *node) askReadIndex() {
	leader := n.leader()
	if leader == nil {
		return
	}
	call(&n.party, leader, time.Second, func() (uint64, bool) {
		return leader.machine.Index(), leader.leads && n.world.hasQuorum(leader) && leader.position == n.world.last()
	}, func(index uint64, ok bool) {
		if ok && !n.ready {
			n.await(index, func() {
				if !n.ready {
					n.becomeReady()
				}
			})
		}
	})
}

// replaced ends the incarnation: the data is emptied, and the node starts as the next one.
func (n *node) replaced(next uint64) {
	w := n.world
	w.checkEmptying(n, next)
	w.trace("%s empties itself and comes back as %d", n.title(), next)
	n.crash()
	if w.mutation == OldLife {
		next = n.incarnation
	}
	n.incarnation, n.leaving = next, false
	n.stored, n.compacted, n.snapshot = 0, 0, nil
	w.after(w.between(10*time.Millisecond, 200*time.Millisecond), n.start)
}

func (n *node) standings() (all []dems.Standing, own dems.Standing) {
	all = n.machine.Standings()
	if at := slices.IndexFunc(all, func(s dems.Standing) bool { return s.Node == n.name }); at >= 0 {
		own = all[at]
	}
	return all, own
}
