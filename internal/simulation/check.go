package simulation

import (
	"bytes"
	"slices"
	"time"

	"dems"
	"dems/fsm"
)

// life is one incarnation of a node.
type life struct {
	node        dems.NodeID
	incarnation uint64
}

// deeds are what a life has done that was not right.
type deeds struct {
	votes int  // wrong ones
	reads int  // wrong answers to reads
	state bool // its state was wrong
	lies  bool // it said what was not so, of what nobody votes on
}

func (d *deeds) isWrong() bool { return d.votes > 0 || d.reads > 0 || d.state || d.lies }

func (w *world) deedsOf(n *node) *deeds { return w.deedsIn(life{n.name, n.incarnation}) }

func (w *world) deedsIn(l life) *deeds {
	d := w.lives[l]
	if d == nil {
		d = &deeds{}
		w.lives[l] = d
	}
	return d
}

// reference is what is right: a machine that applies every entry when it is committed.
type reference struct {
	machine   *fsm.Machine
	digests   map[uint64]dems.Digest // of the state, by index
	results   map[uint64][]byte      // of batches, by index
	batches   map[batchName]uint64   // where each batch stands first
	queries   []dems.Query           // all that front ends ask
	answers   [][]held               // of each query, in the order of the log
	standings []dems.Standing
	removals  map[dems.NodeID][]time.Time // automatic ones that count
	highest   uint64                      // the last entry whose results any client has got
	stale     int                         // how many nodes have answered with what was so once
	healed    time.Duration
}

type batchName struct{ session, number uint64 }

// held is an answer and the index from which on it holds.
type held struct {
	index  uint64
	answer dems.Answer
}

func newReference() *reference {
	r := &reference{
		machine: fsm.New(dems.DefaultCities()), digests: make(map[uint64]dems.Digest), results: make(map[uint64][]byte),
		batches: make(map[batchName]uint64), removals: make(map[dems.NodeID][]time.Time), queries: allQueries(),
	}
	r.answers = make([][]held, len(r.queries))
	r.digests[0] = r.machine.Digest()
	r.note(0)
	return r
}

// note remembers the answers that have changed.
func (r *reference) note(index uint64) {
	for i := range r.queries {
		answer := r.machine.Query(&r.queries[i])
		known := r.answers[i]
		if len(known) > 0 {
			if last := &known[len(known)-1].answer; last.Version == answer.Version && bytes.Equal(last.Result, answer.Result) {
				continue
			}
		}
		r.answers[i] = append(known, held{index, answer})
	}
}

func (r *reference) standing(id dems.NodeID) dems.Standing {
	at := slices.IndexFunc(r.standings, func(s dems.Standing) bool { return s.Node == id })
	if at < 0 {
		return dems.Standing{}
	}
	return r.standings[at]
}

// refer applies a committed entry to the reference and checks what follows from it.
func (w *world) refer(index uint64, e *entry) {
	r := w.reference
	var applied fsm.Applied
	var err error
	switch {
	case e.members != nil:
		applied, err = r.machine.ApplyConfiguration(index, e.members)
		w.trace("%d: configuration %v", index, e.members)
	case e.data != nil:
		applied, err = r.machine.Apply(index, e.data)
	default:
		w.trace("%d: nothing", index)
		return
	}
	if err != nil {
		w.fail("the reference cannot apply entry %d: %v", index, err)
		return
	}
	r.digests[index] = applied.StateDigest
	if applied.Kind == dems.BatchEntry {
		r.results[index] = applied.Results
		name := batchName{applied.Session, applied.Batch}
		if _, known := r.batches[name]; !known {
			r.batches[name] = index
		}
		w.trace("%d: batch %d of session %d, %d commands: %.8s", index, applied.Batch, applied.Session, applied.Commands,
			applied.StateDigest)
		r.note(index)
		return
	}
	w.trace("%d: kind %d, refused %q: %.8s", index, applied.Kind, applied.Refused, applied.StateDigest)
	before := r.standings
	r.standings = r.machine.Standings()
	for i := range applied.Incidents {
		w.checkIncident(&applied.Incidents[i], before, applied.Incidents)
	}
	w.checkStandings()
}

// checkIncident checks that what happened may happen.
func (w *world) checkIncident(incident *dems.Incident, before []dems.Standing, all []dems.Incident) {
	who := life{incident.Node, incident.Incarnation}
	if incident.Kind != dems.AccusationIncident {
		w.trace("   %s of %s.%d by %q: %s", incident.Kind, who.node, who.incarnation, incident.By, incident.Detail)
	}
	switch incident.Kind {
	case dems.VerdictIncident:
		w.outcome.Count.Verdicts++
		w.checkGuilt(who, "%s.%d was right all its life, and %s gave a verdict on it", incident.By)
	case dems.ConvictionIncident:
		w.outcome.Count.Convictions++
		if incident.By != byOperator {
			w.checkGuilt(who, "%s.%d was right all its life, and was convicted (%s)", incident.By)
		}
	case dems.RemovalIncident:
		w.outcome.Count.Removals++
		w.checkRemoval(incident, before, all)
	case dems.ReadditionIncident:
		w.outcome.Count.Rejoin++
	case dems.QuarantineIncident:
		w.outcome.Count.Quarantines++
	}
}

// checkGuilt checks that somebody whom the managers found wrong was so in what is on record.
func (w *world) checkGuilt(who life, format, by string) {
	if d := w.deedsIn(who); d.votes == 0 && !d.state {
		w.fail(format, who.node, who.incarnation, by)
	}
}

// checkRemoval counts automatic removals: as many as are allowed within an hour, and the next one into quarantine.
func (w *world) checkRemoval(incident *dems.Incident, before []dems.Standing, all []dems.Incident) {
	id := incident.Node
	at := slices.IndexFunc(before, func(s dems.Standing) bool { return s.Node == id })
	if at < 0 || before[at].Condition != dems.Convicted {
		w.fail("%s.%d left without a conviction", id, incident.Incarnation)
		return
	}
	quarantined := slices.ContainsFunc(all, func(i dems.Incident) bool { return i.Kind == dems.QuarantineIncident && i.Node == id })
	var recent []time.Time
	for _, t := range w.reference.removals[id] {
		if incident.Time.Sub(t) <= time.Hour {
			recent = append(recent, t)
		}
	}
	if want := !before[at].ByHand && len(recent) >= dems.MaxReplacementsPerHour; quarantined != want {
		w.fail("%s was removed %d times within an hour, quarantine: %t", id, len(recent), quarantined)
	}
	if !before[at].ByHand && !quarantined {
		recent = append(recent, incident.Time)
	}
	if quarantined {
		recent = nil // an operator's replacement begins anew
	}
	w.reference.removals[id] = recent
}

// checkStandings checks that one node at a time is being replaced.
func (w *world) checkStandings() {
	under := 0
	for _, s := range w.reference.standings {
		if s.Condition == dems.Expelled || s.Condition == dems.Rejoining {
			under++
		}
	}
	if under > 1 {
		w.fail("%d replacements at once: %v", under, w.reference.standings)
	}
}

// checkEmptying checks that nobody loses data that the cluster counts on.
func (w *world) checkEmptying(n *node, next uint64) {
	s := w.reference.standing(n.name)
	switch member, found := memberOf(w.members(), n.name, n.incarnation); {
	case found:
		w.fail("%s empties itself and is a %s", n.title(), member.Suffrage)
	case s.Condition != dems.Expelled && s.Condition != dems.Rejoining || s.Incarnation != next:
		w.fail("%s empties itself to come back as %d, and is %s as %d", n.title(), next, s.Condition, s.Incarnation)
	}
}

// inspectBallot notes what is wrong with a ballot, and checks that a node that was right so far got what is right.
func (w *world) inspectBallot(n *node, b *ballot, applied *fsm.Applied) {
	d, index := w.deedsOf(n), b.vote.Index
	if applied.StateDigest != w.reference.digests[index] && !d.state {
		w.fail("%s has another state than the reference at %d", n.title(), index)
	}
	right := w.reference.results[index]
	if !d.state && !bytes.Equal(applied.Results, right) {
		w.fail("%s got other results than the reference at %d", n.title(), index)
	}
	wrong := b.vote.State != w.reference.digests[index]
	if right != nil {
		wrong = wrong || b.vote.Results != dems.DigestOf(right) || !bytes.Equal(b.results, right)
	}
	if wrong {
		d.votes++
	}
}

// inspect looks at a state that came from a snapshot.
func (w *world) inspect(n *node) {
	if n.machine.Digest() == w.reference.digests[n.machine.Index()] || w.deedsOf(n).state {
		return
	}
	w.trace("%s has taken over a wrong state", n.title())
	if isVoter(w.members(), n.name, n.incarnation) {
		w.fail("%s is a voter, was right, and has taken over a wrong state", n.title())
	}
	w.deedsOf(n).state = true
}

// checkWrite checks the results of a batch that a client gets: of every command that was decided.
func (w *world) checkWrite(f *frontEnd, b *flight, results []dems.Result, decided []bool) {
	index, known := w.reference.batches[batchName{f.session, b.number}]
	if !known {
		w.fail("%s answers batch %d, which was never ordered", f.name, b.number)
		return
	}
	right, err := dems.DecodeResults(w.reference.results[index])
	if err != nil || len(right) != len(results) {
		w.fail("%s answers batch %d with %d results instead of %d: %v", f.name, b.number, len(results), len(right), err)
		return
	}
	for i := range results {
		if decided[i] && !bytes.Equal(dems.AppendResult(nil, &results[i]), dems.AppendResult(nil, &right[i])) {
			w.fail("%s answers command %d of batch %d with %v instead of %v", f.name, i, b.number, results[i], right[i])
		}
		if decided[i] {
			w.reference.highest = max(w.reference.highest, index)
		}
	}
}

// checkRead checks the answer to a read: it has to have held at some index, and not only before floor.
func (w *world) checkRead(f *frontEnd, query int, answer *dems.Answer, floor uint64) {
	known := w.reference.answers[query]
	for i := range known {
		if known[i].answer.Version != answer.Version || !bytes.Equal(known[i].answer.Result, answer.Result) {
			continue
		}
		if i+1 < len(known) && known[i+1].index <= floor {
			w.fail("%s answers read %d as it was before %d, and %d was answered before", f.name, query, known[i+1].index, floor)
		}
		return
	}
	w.fail("%s answers read %d with what never was, version %d", f.name, query, answer.Version)
}

// checkEnd checks what has to hold when everything has settled.
func (w *world) checkEnd() {
	if w.unsettled() != "" { // a verdict came late
		for _, f := range w.frontEnds {
			f.resumeClients()
		}
		w.settle()
		return
	}
	w.ended = true
	again := fsm.New(dems.DefaultCities())
	for i := range w.log.entries {
		e := &w.log.entries[i]
		var err error
		switch {
		case e.members != nil:
			_, err = again.ApplyConfiguration(uint64(i+1), e.members)
		case e.data != nil:
			_, err = again.Apply(uint64(i+1), e.data)
		}
		if err != nil {
			w.fail("the log cannot be applied again: %v", err)
		}
	}
	if err := w.reference.machine.CheckInvariants(); err != nil {
		w.fail("the reference: %v", err)
	}
	if again.Digest() != w.reference.machine.Digest() || again.Digest() != again.Recompute() {
		w.fail("the log gives another state the second time")
	}
	for _, n := range w.nodes {
		if w.reference.standing(n.name).Condition == dems.Quarantined {
			continue
		}
		if n.position != w.last() || n.machine.Digest() != again.Digest() {
			w.fail("%s ends at %d of %d with state %s instead of %s", n.title(), n.position, w.last(), n.machine.Digest(), again.Digest())
		}
	}
	w.trace("all is well at %d: %s", w.last(), again.Digest())
}
