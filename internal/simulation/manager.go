package simulation

import (
	"slices"
	"time"

	"dems"
	"dems/node/verdict"
)

// manager is a node's replica manager, step for step as package node drives it.
type manager struct {
	node        *node
	records     *verdict.Records
	suspects    []*suspect
	accusations []accusation
	noted       map[noted]time.Duration
	broken      []bool // by number: that node's votes have to be asked for again, from the first that it holds
	latest      []dems.Vote
	judging     bool // a verdict is on its way
	soon        bool // it is about to judge
	planning    bool // a step of a replacement is under way
	stubborn    int  // for how many ticks somebody has led who was convicted
	learning    bool // it asks whether it was removed
}

// noted names what was made an incident of.
type noted struct {
	by dems.NodeID
	of life
}

type suspect struct {
	finding verdict.Finding
	given   time.Duration // negative: not yet
}

type accusation struct {
	life
	indexes []uint64
	since   time.Duration
}

const (
	verdictPause   = time.Minute
	accusationLife = 10 * time.Second
	maxAccusations = 64
	notePause      = 10 * time.Second
	askTimeout     = 2 * time.Second
	statusTimeout  = 300 * time.Millisecond
	compareTimeout = 2 * time.Second
	busyInterval   = 20 * time.Millisecond
	learnInterval  = 25 * time.Millisecond
)

func newManager(n *node) *manager {
	m := &manager{
		node: n, records: verdict.NewRecords(), noted: make(map[noted]time.Duration),
		broken: make([]bool, n.world.profile.nodes), latest: make([]dems.Vote, n.world.profile.nodes),
	}
	for i := range m.broken {
		m.broken[i] = i != n.number
	}
	m.setVoters()
	return m
}

// tick is what a manager looks at again and again.
func (m *manager) tick() {
	for number, broken := range m.broken {
		if broken {
			m.resubscribe(m.node.world.nodes[number])
		}
	}
	m.judge()
	m.overthrow()
	m.replace()
	m.learn()
}

// overthrow takes over from a leader that was convicted and still leads after a while.
func (m *manager) overthrow() {
	n := m.node
	w, leader := n.world, n.leader()
	standings, _ := n.standings()
	if leader == nil || leader == n || !slices.ContainsFunc(standings, func(s dems.Standing) bool {
		return s.Node == leader.name && s.Condition == dems.Convicted
	}) {
		m.stubborn = 0
		return
	}
	if m.stubborn++; m.stubborn > 2 && slices.Contains(w.candidates(leader), n) {
		w.trace("%s was convicted and does not hand over, %s takes over", leader.title(), n.title())
		w.elect(n)
	}
}

// told has it look at what follows from another standing or configuration.
func (m *manager) told() {
	m.setVoters()
	m.node.after(0, m.replace)
	m.node.after(0, m.learn)
}

func (m *manager) setVoters() {
	m.weighAll(m.records.SetVoters(m.node.machine.Members()))
}

// resubscribe asks for all votes that a node holds.
func (m *manager) resubscribe(other *node) {
	m.broken[other.number] = false
	callLater(&m.node.party, other, func(reply func([]dems.Vote, bool)) {
		votes := make([]dems.Vote, len(other.ring))
		for i := range other.ring {
			votes[i] = other.ring[i].vote
		}
		reply(votes, true)
	}, func(votes []dems.Vote, _ bool) { m.add(votes) })
	if !m.node.reaches(&other.party) || other.fault.kind == mute {
		m.broken[other.number] = true
	}
}

// add takes in votes.
func (m *manager) add(votes []dems.Vote) {
	if m.node.world.mutation == Blind {
		return
	}
	for i := range votes {
		m.weighAll(m.records.Add(&votes[i]))
		m.noteLate(&votes[i])
	}
	if len(m.suspects) > 0 || len(m.accusations) > 0 {
		m.judgeSoon()
	}
}

// noteLate is the mutation that takes nothing said for the same said again.
func (m *manager) noteLate(vote *dems.Vote) {
	if m.node.world.mutation != LateIsWrong {
		return
	}
	m.latest[m.node.world.node(vote.Node).number] = *vote
	for _, latest := range m.latest {
		if latest.Index != 0 && latest.Index < vote.Index {
			latest.Index, latest.Session = vote.Index, vote.Session
			m.weighAll(m.records.Add(&latest))
		}
	}
}

func (m *manager) judgeSoon() {
	if m.soon {
		return
	}
	m.soon = true
	m.node.after(3*time.Millisecond, func() {
		m.soon = false
		m.judge()
	})
}

func (m *manager) weighAll(findings []verdict.Finding) {
	for _, finding := range findings {
		if finding.WrongState || finding.Run >= verdict.Runs {
			m.suspect(finding)
		}
	}
}

func (m *manager) suspect(finding verdict.Finding) {
	if !slices.ContainsFunc(m.suspects, func(s *suspect) bool {
		return s.finding.Node == finding.Node && s.finding.Incarnation == finding.Incarnation
	}) {
		m.suspects = append(m.suspects, &suspect{finding: finding, given: -1})
	}
}

// report takes in what a front end reports.
func (m *manager) report(by dems.NodeID, report *dems.Report) {
	if report.Kind != dems.AccusationReport {
		return
	}
	if len(m.accusations) >= maxAccusations {
		m.accusations = m.accusations[1:]
	}
	m.accusations = append(m.accusations, accusation{
		life: life{report.Node, report.Incarnation}, indexes: report.Indexes, since: m.node.world.at,
	})
	m.judgeSoon()
	m.record(by, report)
}

// record makes an incident of an accusation, if this node leads and has not done so lately.
func (m *manager) record(by dems.NodeID, report *dems.Report) {
	n := m.node
	name := noted{by, life{report.Node, report.Incarnation}}
	if last, found := m.noted[name]; !n.leads || found && n.world.at-last < notePause {
		return
	}
	m.noted[name] = n.world.at
	n.propose(dems.Entry{Kind: dems.IncidentEntry, Incident: dems.Incident{
		Kind: dems.AccusationIncident, Node: report.Node, Incarnation: report.Incarnation, By: string(by), Time: n.world.now(),
	}}, func(bool) {})
}

// weigh makes suspects of those whose accusations the records prove.
func (m *manager) weigh() {
	open := m.accusations[:0]
	for _, a := range m.accusations {
		proof, proven := verdict.Finding{}, len(a.indexes) > 0
		for _, index := range a.indexes {
			finding, wrong := m.records.WrongAt(a.node, a.incarnation, index)
			proof, proven = finding, proven && wrong
		}
		if m.node.world.mutation == Gullible {
			proof, proven = verdict.Finding{Node: a.node, Incarnation: a.incarnation}, true
		}
		switch {
		case proven:
			m.suspect(proof)
		case m.node.world.at-a.since < accusationLife:
			open = append(open, a)
		}
	}
	m.accusations = open
}

// due returns the next finding on which a verdict is to be given, and forgets those about which something was done.
func (m *manager) due() *suspect {
	standings, _ := m.node.standings()
	m.suspects = slices.DeleteFunc(m.suspects, func(s *suspect) bool {
		return s.finding.Node == m.node.name || !slices.ContainsFunc(standings, func(standing dems.Standing) bool {
			return standing.Node == s.finding.Node && standing.Incarnation == s.finding.Incarnation && standing.Condition == dems.Correct
		})
	})
	for _, s := range m.suspects {
		if s.given < 0 || m.node.world.at-s.given >= verdictPause {
			return s
		}
	}
	return nil
}

// judge gives the verdicts that are due, one after the other.
func (m *manager) judge() {
	n := m.node
	m.setVoters()
	if m.judging || !n.ready || !n.isVoter() {
		return
	}
	m.weigh()
	due := m.due()
	if due == nil {
		return
	}
	finding := due.finding
	m.judging = true
	n.world.trace("%s finds %s.%d wrong at %d: state %t, expected %.8s, answered %.8s", n.title(), finding.Node, finding.Incarnation,
		finding.Index, finding.WrongState, finding.Expected, finding.Answered)
	n.propose(dems.Entry{Kind: dems.VerdictEntry, Verdict: dems.Verdict{
		Node: finding.Node, Incarnation: finding.Incarnation, By: n.name, ByIncarnation: n.incarnation, Index: finding.Index,
		Expected: finding.Expected.String(), Answered: finding.Answered.String(), Time: n.world.now(),
	}}, func(ok bool) {
		m.judging = false
		if ok {
			due.given = n.world.at
			m.judgeSoon()
		}
	})
}

// propose has whoever leads order an entry. Done is told whether it was, be it that the state machine refused it.
func (n *node) propose(e dems.Entry, done func(ok bool)) {
	leader := n.leader()
	if leader == nil {
		done(false)
		return
	}
	data := dems.AppendEntry(nil, &e)
	finished := false
	finish := func(_ ordered, ok bool) {
		if !finished {
			finished = true
			done(ok)
		}
	}
	n.after(askTimeout, func() { finish(ordered{}, false) })
	callLater(&n.party, leader, func(reply func(ordered, bool)) { leader.order(data, reply) }, finish)
}

// statuses asks all other nodes for their status. Done gets what has come in time.
func (n *node) statuses(done func(map[dems.NodeID]dems.NodeStatus)) {
	all := make(map[dems.NodeID]dems.NodeStatus)
	open := len(n.world.nodes) - 1
	for _, other := range n.world.nodes {
		if other == n {
			continue
		}
		call(&n.party, other, statusTimeout, func() (dems.NodeStatus, bool) { return other.status(), true },
			func(status dems.NodeStatus, ok bool) {
				if ok {
					all[other.name] = status
				}
				if open--; open == 0 {
					done(all)
				}
			})
	}
}
