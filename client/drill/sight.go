package drill

import (
	"fmt"
	"slices"
	"time"

	"dems"
	"dems/client"
	"dems/client/drill/report"
)

// sight is what a drill has seen of the cluster. It is a value with rules and nothing else: package-level functions and its
// methods start nothing and wait for nothing.
type sight struct {
	view      client.ClusterView // as it was seen last
	asked     time.Duration      // when that was asked for
	incidents []seenIncident     // of the drill, in log order
	before    uint64             // sequence of the last incident before the drill
	leaders   []report.Leader    // the last one still goes on
	leaderAt  time.Duration      // when it was learned last who leads
	states    agreement
}

// seenIncident is an incident and when it was seen.
type seenIncident struct {
	client.Incident
	at time.Duration
}

// life is one incarnation of a node.
type life struct {
	node        dems.NodeID
	incarnation uint64
}

// takeView takes in a picture of the cluster that was asked for at one time and came at another.
func (s *sight) takeView(view *client.ClusterView, asked, came time.Duration) {
	s.view, s.asked = *view, asked
	s.states.take(view.Nodes)
	// A picture may have been on its way for as long as a dead node was waited for: it says nothing of who leads since.
	if asked >= s.leaderAt || view.Leader != "" {
		s.takeLeader(view.Leader, view.Term, came, false)
	}
}

// takeIncidents takes in further incidents.
func (s *sight) takeIncidents(incidents []client.Incident, came time.Duration) {
	for _, incident := range incidents {
		s.incidents = append(s.incidents, seenIncident{incident, came})
		if incident.Kind == dems.LeaderChangeIncident.String() {
			s.takeLeader(incident.Node, termOf(incident.Detail), came, true)
		}
	}
}

// termOf returns the term that a new leader says that it leads in, 0 where it says none.
func termOf(detail string) uint64 {
	var term uint64
	if _, err := fmt.Sscanf(detail, "leads in term %d", &term); err != nil {
		return 0
	}
	return term
}

// takeLeader takes in who leads, "" where nobody is known to. What is older than what is known changes nothing. An incident is
// the word of the leader itself. A picture is less certain: nodes that have entered a term may still name the leader of the one
// before. So it tells of no leader whom an incident contradicts, and of no further term of the one who leads.
func (s *sight) takeLeader(node dems.NodeID, term uint64, at time.Duration, certain bool) {
	newest, leader := s.term(), s.leader()
	switch {
	case node == "" && leader == "" && len(s.leaders) > 0:
		return
	case node != "" && (term < newest || term == newest && leader == node):
		return
	case node != "" && !certain && (term == newest && leader != "" || leader == node):
		return
	}
	s.leaderAt = at
	if len(s.leaders) > 0 {
		s.leaders[len(s.leaders)-1].To = at.Seconds()
	}
	s.leaders = append(s.leaders, report.Leader{Node: string(node), Term: term, From: at.Seconds()})
}

// term returns the newest term in which somebody was seen to lead.
func (s *sight) term() uint64 {
	for _, leader := range slices.Backward(s.leaders) {
		if leader.Node != "" {
			return leader.Term
		}
	}
	return 0
}

// leader returns who leads as far as is known.
func (s *sight) leader() dems.NodeID {
	if len(s.leaders) == 0 {
		return ""
	}
	return dems.NodeID(s.leaders[len(s.leaders)-1].Node)
}

// electedAfter returns when somebody was first seen to lead in a later term than that one.
func (s *sight) electedAfter(term uint64) (time.Duration, bool) {
	for _, leader := range s.leaders {
		if leader.Node != "" && leader.Term > term {
			return seconds(leader.From), true
		}
	}
	return 0, false
}

// incident returns the first incident of a kind about a life, of those after a sequence.
func (s *sight) incident(kind dems.IncidentKind, of life, after uint64) (seenIncident, bool) {
	for _, incident := range s.incidents {
		if incident.Kind == kind.String() && incident.Node == of.node && incident.Incarnation == of.incarnation && incident.Sequence > after {
			return incident, true
		}
	}
	return seenIncident{}, false
}

// last returns the sequence of the newest incident.
func (s *sight) last() uint64 {
	if len(s.incidents) == 0 {
		return s.before
	}
	return s.incidents[len(s.incidents)-1].Sequence
}

// node returns what was seen last of a node.
func (s *sight) node(id dems.NodeID) client.NodeView {
	for _, node := range s.view.Nodes {
		if node.ID == id {
			return node
		}
	}
	return client.NodeView{ID: id}
}

// applied returns the largest index that any node has applied.
func (s *sight) applied() uint64 {
	most := uint64(0)
	for _, node := range s.view.Nodes {
		most = max(most, node.Applied)
	}
	return most
}

// unwell returns why the cluster is not whole, "" where it is: each of the nodes is a healthy voter and has applied an index, and
// one of them leads.
func (s *sight) unwell(nodes []dems.NodeID, least uint64) string {
	for _, id := range nodes {
		switch node := s.node(id); {
		case node.State == "":
			return fmt.Sprintf("%s is not known", id)
		case node.State != healthy || node.Suffrage != dems.Voter:
			return fmt.Sprintf("%s is %s, suffrage %s", id, node.State, node.Suffrage)
		case node.Applied < least:
			return fmt.Sprintf("%s has applied %d of %d", id, node.Applied, least)
		}
	}
	if len(s.view.Nodes) != len(nodes) {
		return fmt.Sprintf("there are %d nodes, and not the %d that were named", len(s.view.Nodes), len(nodes))
	}
	if !slices.Contains(nodes, s.view.Leader) {
		return "no leader is known"
	}
	return ""
}

// healthy is what a front end calls a node with which nothing is wrong.
const healthy = "healthy"

// unequal returns how the states of the nodes differ, or why they cannot be compared; "" where all are equal.
func (s *sight) unequal(nodes []dems.NodeID) string {
	if problem := s.unwell(nodes, s.applied()); problem != "" {
		return problem
	}
	first := s.view.Nodes[0]
	for _, node := range s.view.Nodes[1:] {
		if node.Digest != first.Digest {
			return fmt.Sprintf("at index %d %s has the state %s and %s has %s", first.Applied, first.ID, first.Digest, node.ID, node.Digest)
		}
	}
	return ""
}

// agreement compares states: what two correct nodes have at one index is equal.
type agreement struct {
	wrong   map[life]bool      // lives that were made wrong: theirs do not count
	states  map[uint64]stateOf // by index
	indexes []uint64           // of states, in the order in which they came
	differ  tally
}

// stateOf is the first state that was seen of an index.
type stateOf struct {
	digest string
	life   life
	told   bool // that another node has another one
}

// statesKept is how many indexes are remembered: more than nodes are apart that all answer.
const statesKept = 4096

// take takes in the states of nodes.
func (a *agreement) take(nodes []client.NodeView) {
	if a.states == nil {
		a.states = make(map[uint64]stateOf, statesKept)
	}
	for _, node := range nodes {
		of := life{node.ID, node.Incarnation}
		if node.Applied == 0 || node.Digest == "" || a.wrong[of] {
			continue
		}
		first, known := a.states[node.Applied]
		switch {
		case !known:
			a.keep(node.Applied, stateOf{digest: node.Digest, life: of})
		case first.digest == node.Digest || first.told:
		case a.wrong[first.life]: // it was made wrong in between
			a.states[node.Applied] = stateOf{digest: node.Digest, life: of}
		default:
			a.differ.add("at index %d %s/%d has the state %s and %s/%d has %s",
				node.Applied, first.life.node, first.life.incarnation, first.digest, node.ID, node.Incarnation, node.Digest)
			first.told = true
			a.states[node.Applied] = first
		}
	}
}

// keep remembers a state, and forgets the one that came first if there are too many.
func (a *agreement) keep(index uint64, state stateOf) {
	a.states[index] = state
	if a.indexes = append(a.indexes, index); len(a.indexes) > statesKept {
		delete(a.states, a.indexes[0])
		a.indexes = a.indexes[1:]
	}
}

// except leaves a life out of every comparison from now on.
func (a *agreement) except(of life) {
	if a.wrong == nil {
		a.wrong = make(map[life]bool)
	}
	a.wrong[of] = true
}

// seconds turns seconds of a report into a duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// milliseconds turns a duration into that of a report.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
