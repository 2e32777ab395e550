package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dems"
	"dems/node/verdict"
	"dems/transport"
)

const (
	// verdictPause is how long a verdict of this node's counts in the replicated state; while it is still of use, it is given
	// again after that time.
	verdictPause = time.Minute
	// accusationLife is how long an accusation waits for votes that prove it.
	accusationLife = 10 * time.Second
	// maxAccusations is how many accusations wait; the oldest gives way.
	maxAccusations = 64
	// votesPause is the pause before a peer's votes are asked for again.
	votesPause = 100 * time.Millisecond
	// judgeInterval is how often verdicts that could not be given, and accusations, are looked at again.
	judgeInterval = 250 * time.Millisecond
)

// manager is a node's replica manager: it compares all members' votes, gives verdicts, and, while its node leads, takes
// every replacement from step to step. Whatever it starts from is replicated state, so any leader goes on where another
// one ended.
type manager struct {
	// changed and concerned are told when the members' standings or the configuration may have changed.
	changed   wake      // for replace
	concerned wake      // for learn
	found     wake      // told when there is something to judge
	notes     chan note // what the leader makes incidents of

	mu          sync.Mutex
	records     *verdict.Records
	suspects    map[incarnation]*suspect
	accusations []accusation
}

// incarnation names one life of a node.
type incarnation struct {
	node   dems.NodeID
	number uint64
}

func (i incarnation) String() string { return string(serverID(i.node, i.number)) }

// suspect is a node that this one's records show to be wrong.
type suspect struct {
	finding verdict.Finding
	given   time.Time // when the verdict was given; zero: not yet
}

// accusation is a front end's accusation that this node's records do not prove yet.
type accusation struct {
	of      incarnation
	indexes []uint64
	since   time.Time
}

func newManager() *manager {
	return &manager{
		changed: make(wake, 1), concerned: make(wake, 1), found: make(wake, 1), notes: make(chan note, maxNotes),
		records: verdict.NewRecords(), suspects: make(map[incarnation]*suspect),
	}
}

// told tells the goroutines that follow the members' standings.
func (m *manager) told() {
	m.changed.signal()
	m.concerned.signal()
}

// watchVotes takes in the votes of one node, this one included, until ctx ends.
func (n *Node) watchVotes(ctx context.Context, id dems.NodeID, from transport.Handler) {
	for ctx.Err() == nil {
		err := from.Votes(ctx, 0, func(votes []dems.Vote) error {
			n.manager.add(id, votes, n.state.applied.get()+verdict.Window)
			return nil
		})
		n.logger.Debug("votes ended", "node", id, "error", err)
		wait(ctx, votesPause)
	}
}

// ownVotes is this node's ring, whatever the node lets others see.
type ownVotes struct {
	transport.Handler
	node *Node
}

// Votes implements transport.Handler.
func (o ownVotes) Votes(ctx context.Context, session uint64, send func([]dems.Vote) error) error {
	return o.node.state.ring.stream(ctx, o.node.stopped, session, send)
}

// add takes in votes that came from a node. Nobody votes in another's name: a single node that is wrong could make others
// look wrong. Nor does anybody vote on what is far ahead of the log: it would take the place of all other votes.
func (m *manager) add(from dems.NodeID, votes []dems.Vote, last uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range votes {
		if votes[i].Node == from && votes[i].Index <= last {
			m.weighAll(m.records.Add(&votes[i]))
		}
	}
	if len(m.suspects) > 0 || len(m.accusations) > 0 {
		m.found.signal()
	}
}

// weighAll takes in what the records show: a wrong state does not heal, and wrong results do count once they are several in
// a row. Callers hold mu.
func (m *manager) weighAll(findings []verdict.Finding) {
	for _, finding := range findings {
		if finding.WrongState || finding.Run >= verdict.Runs {
			m.suspect(finding)
		}
	}
}

// suspect notes a finding that suffices for a verdict. Callers hold mu.
func (m *manager) suspect(finding verdict.Finding) {
	who := incarnation{finding.Node, finding.Incarnation}
	if m.suspects[who] == nil {
		m.suspects[who] = &suspect{}
	}
	m.suspects[who].finding = finding
}

// accuse takes in a front end's accusation.
func (m *manager) accuse(report *dems.Report, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.accusations) >= maxAccusations {
		m.accusations = m.accusations[1:]
	}
	m.accusations = append(m.accusations, accusation{
		of: incarnation{report.Node, report.Incarnation}, indexes: report.Indexes, since: now,
	})
	m.found.signal()
}

// weigh makes suspects of those whose accusations this node's records prove: each vote that is named was wrong. What is
// not proven in time is dropped.
func (m *manager) weigh(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	open := m.accusations[:0]
	for _, a := range m.accusations {
		proof, proven := verdict.Finding{}, len(a.indexes) > 0
		for _, index := range a.indexes {
			finding, wrong := m.records.WrongAt(a.of.node, a.of.number, index)
			proof, proven = finding, proven && wrong
		}
		switch {
		case proven:
			m.suspect(proof)
		case now.Sub(a.since) < accusationLife:
			open = append(open, a)
		}
	}
	m.accusations = open
}

// due returns the findings on which a verdict is to be given now, of nodes that stand as correct with that incarnation.
// Others are forgotten: something was done about them. So are findings that the records do not show any more: a node whose
// memory was wrong may have been started again, and be right.
func (m *manager) due(now time.Time, standings []dems.Standing, self dems.NodeID) []verdict.Finding {
	m.mu.Lock()
	defer m.mu.Unlock()
	correct := make(map[incarnation]bool, len(standings))
	for _, s := range standings {
		correct[incarnation{s.Node, s.Incarnation}] = s.Condition == dems.Correct && s.Node != self
	}
	var findings []verdict.Finding
	for who, s := range m.suspects {
		_, wrong := m.records.WrongAt(who.node, who.number, s.finding.Index)
		switch {
		case !correct[who] || !wrong:
			delete(m.suspects, who)
		case s.given.IsZero() || now.Sub(s.given) >= verdictPause:
			findings = append(findings, s.finding)
		}
	}
	return findings
}

// given notes that a verdict is in the log.
func (m *manager) given(finding *verdict.Finding, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.suspects[incarnation{finding.Node, finding.Incarnation}]; s != nil {
		s.given = now
	}
}

// judge gives verdicts until ctx ends. A node that has not caught up judges nobody, nor does one that has no vote: what
// it knows of the members may be long out of date.
func (n *Node) judge(ctx context.Context) {
	ticker := time.NewTicker(judgeInterval)
	defer ticker.Stop()
	for {
		s := n.standing()
		n.manager.setVoters(s.members) // not while the state is held: what is applied does not wait for the manager
		if n.isReady() && n.state.isVoter() {
			n.manager.weigh(time.Now())
			for _, finding := range n.manager.due(time.Now(), s.standings, n.config.ID) {
				n.giveVerdict(ctx, &finding)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-n.manager.found:
		case <-ticker.C:
		}
	}
}

func (m *manager) setVoters(members []dems.Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.weighAll(m.records.SetVoters(members))
}

// giveVerdict puts this node's verdict into the log.
func (n *Node) giveVerdict(ctx context.Context, finding *verdict.Finding) {
	what := "results "
	if finding.WrongState {
		what = "state "
	}
	err := n.proposeEntry(ctx, dems.Entry{Kind: dems.VerdictEntry, Verdict: dems.Verdict{
		Node: finding.Node, Incarnation: finding.Incarnation, By: n.config.ID, ByIncarnation: n.folder.Marker.Incarnation,
		Index: finding.Index, Expected: what + finding.Expected.String(), Answered: what + finding.Answered.String(), Time: now(),
	}})
	if err != nil && !isRefusal(err) {
		n.logger.Debug("verdict", "on", finding.Node, "error", err)
		return // it is given again at the next tick
	}
	n.manager.given(finding, time.Now())
	n.logger.Warn("verdict given", "on", incarnation{finding.Node, finding.Incarnation}, "index", finding.Index,
		"wrong", what, "expected", finding.Expected, "answered", finding.Answered)
}

// now is the time as entries carry it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// proposeEntry proposes an entry to whoever leads, once. A refusal by the state machine is an error for which isRefusal
// holds; after any other error the entry may or may not be in the log.
func (n *Node) proposeEntry(ctx context.Context, entry dems.Entry) error {
	leader := n.replica(n.leader())
	if leader == nil {
		return replicaError(dems.NotLeader, errNoLeader)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := leader.Propose(ctx, dems.AppendEntry(nil, &entry))
	return err
}

// corrupt alters the state for a drill.
func (n *Node) corrupt(seed uint64) string {
	n.state.mu.Lock()
	defer n.state.mu.Unlock()
	return n.state.machine.Corrupt(seed)
}

// failpoint stops at a step of a replacement, in tests.
func (n *Node) failpoint(step string) {
	if n.config.Failpoint != nil {
		n.config.Failpoint(step)
	}
}

// truncated shortens a text for an incident.
func truncated(format string, arguments ...any) string {
	text := fmt.Sprintf(format, arguments...)
	return text[:min(len(text), dems.MaxEvidenceBytes)]
}
