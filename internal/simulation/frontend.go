package simulation

import (
	"fmt"
	"slices"
	"time"

	"dems"
	"dems/frontend/voting"
)

// frontEnd is a front end with its clients.
type frontEnd struct {
	party
	number       int
	session      uint64
	hostile      bool
	quiet        bool // its clients ask nothing any more
	opened       bool
	batches      uint64
	statuses     []dems.NodeStatus // what each node last said of itself
	heard        []bool            // whether it answered the last time
	voters       voting.Voters
	members      []dems.Member
	index        uint64 // of the configuration that names the members
	flights      []*flight
	strikes      voting.Strikes
	acknowledged uint64
	lastWrite    time.Duration // when the last write was begun that was answered; negative: none was
	lastRead     time.Duration
	probing      []bool
}

const (
	patience     = 50 * time.Millisecond
	doubt        = time.Second
	giveUp       = 15 * time.Second
	readPatience = 400 * time.Millisecond
	pollInterval = 250 * time.Millisecond
	clients      = 2
)

// judged is one life of a node whose vote has been judged.
type judged = life

// flight is one batch.
type flight struct {
	number   uint64
	data     []byte
	commands []dems.Command
	probing  *node // on whose answer to a read it is to give evidence
	done     func(ok bool, results []dems.Result)
	started  time.Duration
	box      voting.Box
	decision *voting.Decision
	landed   bool
	judged   []judged
	proposed *node
	tried    time.Duration // when it was proposed last
	split    time.Duration // since when no majority can be had; negative: one can
	asked    []time.Duration
}

func newFrontEnd(w *world, number int) *frontEnd {
	return &frontEnd{
		party: party{world: w, name: dems.NodeID(fmt.Sprintf("fe%d", number+1)), frontEnd: true, up: true}, number: number,
		session: uint64(100 + number), hostile: w.profile.hostile && number == w.profile.frontEnds-1,
		statuses: make([]dems.NodeStatus, w.profile.nodes), heard: make([]bool, w.profile.nodes),
		probing: make([]bool, w.profile.nodes), lastWrite: -1, lastRead: -1,
	}
}

// open begins: the front end looks who is there, registers, and lets its clients in.
func (f *frontEnd) open() {
	f.poll()
	if f.hostile {
		f.after(f.world.between(0, 200*time.Millisecond), f.accuse)
	}
	f.register()
}

func (f *frontEnd) register() {
	leader := f.leader()
	if f.opened {
		return
	}
	f.after(300*time.Millisecond, f.register)
	if leader == nil {
		return
	}
	data := dems.AppendEntry(nil, &dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{
		ID: string(f.name), Address: "http://" + string(f.name), Time: f.world.now(), Session: f.session,
	}})
	callLater(&f.party, leader, func(reply func(ordered, bool)) { leader.order(data, reply) }, func(_ ordered, ok bool) {
		if !ok || f.opened {
			return
		}
		f.opened = true
		f.resumeClients()
	})
}

// poll asks all nodes for their status.
func (f *frontEnd) poll() {
	f.after(pollInterval, f.poll)
	for _, n := range f.world.nodes {
		call(&f.party, n, pollInterval, func() (dems.NodeStatus, bool) { return n.status(), true },
			func(status dems.NodeStatus, ok bool) {
				f.heard[n.number] = ok
				if ok {
					f.statuses[n.number] = status
				}
				f.adopt()
			})
	}
}

// adopt takes over the newest configuration that a majority reports: of the voters so far or, where too few of them are left
// in the lives that it knows, of all nodes, as in the beginning.
func (f *frontEnd) adopt() {
	if f.adoptFrom(f.voters) || f.world.mutation == Stranded && len(f.voters) > 0 {
		return
	}
	var all voting.Voters
	for _, n := range f.world.nodes {
		all = append(all, voting.Voter{Node: n.name})
	}
	f.adoptFrom(all)
}

// adoptFrom takes over the newest configuration that a majority of an electorate reports.
func (f *frontEnd) adoptFrom(electorate voting.Voters) bool {
	reporting := make(map[uint64]int) // by the number of the node whose report it is
	for _, voter := range electorate {
		number := f.world.node(voter.Node).number
		status := &f.statuses[number]
		if !f.heard[number] || len(status.Members) == 0 || status.Configuration <= f.index ||
			!electorate.Counts(voter.Node, status.Incarnation) {
			continue
		}
		first := uint64(number)
		for _, other := range f.world.nodes[:number] {
			if _, counted := reporting[uint64(other.number)]; counted && f.statuses[other.number].Configuration == status.Configuration &&
				slices.Equal(f.statuses[other.number].Members, status.Members) {
				first = uint64(other.number)
				break
			}
		}
		if reporting[first]++; reporting[first] < electorate.Majority() {
			continue
		}
		f.index, f.members, f.voters = status.Configuration, status.Members, nil
		for _, member := range f.members {
			if member.Suffrage == dems.Voter {
				f.voters = append(f.voters, voting.Voter{Node: member.ID, Incarnation: member.Incarnation})
			}
		}
		f.world.trace("%s goes by configuration %d with %d voters", f.name, f.index, len(f.voters))
		return true
	}
	return false
}

// electors are those whose votes are counted.
func (f *frontEnd) electors() voting.Voters {
	if f.world.mutation == FewerVotes && len(f.voters) > 2 {
		return f.voters[:len(f.voters)-2]
	}
	return f.voters
}

// leader returns who leads by the word of most nodes, and now and then just anybody.
func (f *frontEnd) leader() *node {
	w := f.world
	var best *node
	most := 0
	for _, candidate := range w.nodes {
		naming := 0
		for number := range w.nodes {
			if f.heard[number] && f.statuses[number].Leader == candidate.name {
				naming++
			}
		}
		if naming > most {
			best, most = candidate, naming
		}
	}
	return best
}

// write has commands ordered. Done gets the results.
func (f *frontEnd) write(commands []dems.Command, probing *node, done func(ok bool, results []dems.Result)) {
	open := 0
	for _, b := range f.flights {
		if !b.landed && f.batches-b.number >= dems.MaxBatchesInFlight-1 {
			open = dems.MaxBatchesInFlight
		}
	}
	if open == dems.MaxBatchesInFlight { // the oldest has to land first
		f.after(patience, func() { f.write(commands, probing, done) })
		return
	}
	f.batches++
	number := f.batches
	b := &flight{
		number: number, commands: commands, probing: probing, done: done, started: f.world.at, split: -1, tried: -1,
		asked: make([]time.Duration, len(f.world.nodes)),
		data: dems.AppendEntry(nil, &dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
			Session: f.session, Number: number, Commands: commands,
		}}),
	}
	f.flights = append(f.flights, b)
	f.step(b)
	f.after(patience, func() { f.impatient(b) })
}

// impatient asks those who have not voted, and looks for another leader, as long as a batch is on its way.
func (f *frontEnd) impatient(b *flight) {
	if b.landed {
		return
	}
	if f.world.at-b.started > giveUp {
		f.land(b, nil, nil)
		return
	}
	f.ask(b, b.box.Silent(f.electors()))
	f.step(b)
	f.after(patience, func() { f.impatient(b) })
}

// step does what is next for a batch: it is answered, or proposed, or somebody is asked for results.
func (f *frontEnd) step(b *flight) {
	if b.landed {
		return
	}
	counted := b.box.Tally(f.electors())
	if counted.Won {
		decision := b.box.Decide(f.electors(), &counted)
		f.decide(b, &decision)
		return
	}
	switch {
	case !counted.Split && !counted.Scattered:
		b.split = -1
	case b.split < 0:
		b.split = f.world.at
	}
	if counted.Split && len(counted.Missing) == 0 || b.split >= 0 && f.world.at-b.split > doubt {
		decision := b.box.DecideEach(f.electors(), len(b.commands))
		f.decide(b, &decision)
		return
	}
	f.ask(b, counted.Missing)
	if leader := f.leader(); leader != nil && (b.proposed != leader || f.world.at-b.tried > doubt) {
		f.propose(b, leader)
	}
}

// propose sends a batch to a leader.
func (f *frontEnd) propose(b *flight, leader *node) {
	b.proposed, b.tried = leader, f.world.at
	callLater(&f.party, leader, func(reply func(ordered, bool)) { leader.order(b.data, reply) }, func(got ordered, ok bool) {
		if ok {
			f.cast(b, &got.vote, got.results)
		} else if b.proposed == leader && !b.landed {
			f.after(patience, func() {
				if b.proposed == leader {
					b.proposed = nil
				}
			})
		}
	})
}

// ask asks nodes for their results, each now and then.
func (f *frontEnd) ask(b *flight, ids []dems.NodeID) {
	for _, id := range ids {
		n := f.world.node(id)
		if last := b.asked[n.number]; last != 0 && f.world.at-last < 4*patience {
			continue
		}
		b.asked[n.number] = f.world.at
		call(&f.party, n, doubt, func() (ballot, bool) { return n.results(f.session, b.number) }, func(got ballot, ok bool) {
			if ok {
				f.cast(b, &got.vote, got.results)
			}
		})
	}
}

// receive takes in a node's votes.
func (f *frontEnd) receive(n *node, votes []dems.Vote) {
	for i := range votes {
		if votes[i].Session != f.session || votes[i].Node != n.name {
			continue
		}
		for _, b := range f.flights {
			if b.number == votes[i].Batch {
				f.cast(b, &votes[i], nil)
			}
		}
	}
}

// cast counts a vote, or judges it where the batch has landed.
func (f *frontEnd) cast(b *flight, vote *dems.Vote, results []byte) {
	cast := voting.NewBallot(vote, results)
	if b.landed {
		f.judge(b, &cast)
		return
	}
	b.box.Cast(cast)
	f.step(b)
}

// decide ends a vote: clients get what was decided, and everybody who has voted is judged.
func (f *frontEnd) decide(b *flight, decision *voting.Decision) {
	b.decision = decision
	decided := make([]bool, len(b.commands))
	results := make([]dems.Result, len(b.commands))
	if decision.Whole {
		decoded, err := dems.DecodeResults(decision.Bytes)
		if err != nil || len(decoded) != len(b.commands) {
			f.world.fail("%s: batch %d of %d commands was decided with %d results: %v", f.name, b.number, len(b.commands), len(decoded), err)
		}
		copy(results, decoded)
		for i := range decided {
			decided[i] = true
		}
	} else {
		for i := range decision.Each {
			results[i], decided[i] = decision.Each[i].Result, decision.Each[i].Agreeing > 0
		}
	}
	for i := range results {
		if decided[i] {
			f.acknowledged = max(f.acknowledged, results[i].Sequence)
		}
	}
	f.world.trace("%s: batch %d is decided at %d, whole %t", f.name, b.number, decision.Index, decision.Whole)
	f.land(b, results, decided)
	for _, cast := range b.box.Ballots() {
		f.judge(b, &cast)
	}
}

// land answers the clients of a batch.
func (f *frontEnd) land(b *flight, results []dems.Result, decided []bool) {
	w := f.world
	b.landed = true
	if results == nil {
		w.trace("%s gives batch %d up", f.name, b.number)
	} else {
		w.checkWrite(f, b, results, decided)
	}
	ok := results != nil && !slices.Contains(decided, false)
	if ok {
		w.outcome.Count.Writes += len(results)
		f.lastWrite = max(f.lastWrite, b.started)
	} else {
		w.outcome.Count.Undecided += len(b.commands)
	}
	b.done(ok, results)
	if w.chance(5) { // a leader that seemed dead has got it, too
		if leader := f.leader(); leader != nil {
			f.propose(b, leader)
		}
	}
}

// judge keeps the score of a node that has voted on a batch.
func (f *frontEnd) judge(b *flight, cast *voting.Ballot) {
	who := judged{cast.Node, cast.Incarnation}
	if b.decision == nil || slices.Contains(b.judged, who) || !f.voters.Counts(cast.Node, cast.Incarnation) {
		return
	}
	switch finding := b.decision.Judge(cast); finding {
	case voting.Unrelated:
		return
	case voting.Right:
		if b.probing == nil {
			f.strikes.Right(cast.Node, cast.Incarnation)
		}
	case voting.Wrong:
		for range b.commands {
			f.wrongVote(b, who)
		}
	case voting.Different:
		f.compare(b, cast)
	}
	b.judged = append(b.judged, who)
}

// compare counts which commands of a batch a node has got wrong, and asks it for its results if need be.
func (f *frontEnd) compare(b *flight, cast *voting.Ballot) {
	count := func(results []byte) {
		for _, c := range b.decision.Compare(results) {
			switch {
			case c.Finding == voting.Wrong:
				f.wrongVote(b, life{cast.Node, cast.Incarnation})
			case c.Finding == voting.Right && b.probing == nil:
				f.strikes.Right(cast.Node, cast.Incarnation)
			}
		}
	}
	if cast.Bytes != nil {
		count(cast.Bytes)
		return
	}
	n := f.world.node(cast.Node)
	call(&f.party, n, doubt, func() (ballot, bool) { return n.results(f.session, b.number) }, func(got ballot, ok bool) {
		if !ok || dems.DigestOf(got.results) != cast.Results {
			got.results = nil
		}
		count(got.results)
	})
}

// wrongVote takes in that a node voted for a wrong result of one command.
func (f *frontEnd) wrongVote(b *flight, who life) {
	now := f.world.now()
	if b.probing != nil {
		f.report(f.strikes.Prove(who.node, who.incarnation, b.decision.Index, now))
		return
	}
	f.report(f.strikes.Wrong(who.node, who.incarnation, voting.Evidence{Index: b.decision.Index, Expected: "a", Answered: "b"}, now))
}

// report tells all nodes what the front end has seen.
func (f *frontEnd) report(report dems.Report, due bool) {
	if !due {
		return
	}
	w := f.world
	w.outcome.Count.Reports++
	if report.Kind == dems.AccusationReport {
		w.outcome.Count.Accusations++
	}
	w.trace("%s reports %s.%d: kind %d, %d in a row, %v", f.name, report.Node, report.Incarnation, report.Kind, report.Strikes,
		report.Indexes)
	if !w.deedsIn(life{report.Node, report.Incarnation}).isWrong() {
		w.fail("%s reports %s.%d, which was right all its life", f.name, report.Node, report.Incarnation)
	}
	f.tell(report)
}

func (f *frontEnd) tell(report dems.Report) {
	for _, n := range f.world.nodes {
		f.send(&n.party, func() {
			if n.fault.kind != mute {
				n.manager.report(f.name, &report)
			}
		})
	}
}

// accuse is what a hostile front end does all the time.
func (f *frontEnd) accuse() {
	w := f.world
	if f.quiet {
		return
	}
	f.after(w.between(20*time.Millisecond, 500*time.Millisecond), f.accuse)
	n := w.nodes[w.random.IntN(len(w.nodes))]
	report := dems.Report{Kind: dems.AccusationReport, Node: n.name, Incarnation: n.incarnation, Strikes: voting.Enough}
	for range w.random.IntN(dems.MaxReportIndexes) {
		report.Indexes = append(report.Indexes, 1+w.random.Uint64N(w.last()+1))
	}
	slices.Sort(report.Indexes)
	w.outcome.Count.HostileReports++
	f.tell(report)
}
