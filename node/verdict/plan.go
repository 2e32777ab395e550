package verdict

import (
	"cmp"
	"fmt"
	"slices"

	"dems"
)

// Action says what the leader's replica manager does next.
type Action uint8

// The actions, in the order of a replacement.
const (
	Wait        Action = iota // nothing can be done now; Step.Reason tells why, "" if nothing is to be done
	HandOver                  // the convicted node is the leader itself
	Remove                    // take the convicted incarnation out of the configuration
	AddNonvoter               // let the emptied node's new incarnation catch up
	Compare                   // compare its state with the majority's and, if they are equal, make it a voter
)

var actionNames = [...]string{"wait", "hand over", "remove", "add nonvoter", "compare"}

// String returns the action's name.
func (a Action) String() string {
	if int(a) >= len(actionNames) {
		return "unknown"
	}
	return actionNames[a]
}

// Step is what is to be done next.
type Step struct {
	Action      Action
	Node        dems.NodeID
	Incarnation uint64
	Reason      string // Wait only
}

// View is what a plan is made from: Standings and Members are of one applied state; Statuses are what the members that
// answered lately said of themselves, without the leader itself.
type View struct {
	Self      dems.NodeID // the leader
	Standings []dems.Standing
	Members   []dems.Member
	Statuses  map[dems.NodeID]dems.NodeStatus
}

// Plan returns the next step. There is one replacement at a time: what was begun is finished before another is begun, and
// none is begun while the rest of the cluster could not do without the node.
func Plan(v *View) Step {
	for _, s := range v.Standings {
		if s.Node == v.Self && s.Condition == dems.Convicted { // whatever else is under way, others see to it better
			return Step{Action: HandOver, Node: s.Node, Incarnation: s.Incarnation}
		}
	}
	if begun := v.inOrder(dems.Expelled, dems.Rejoining); len(begun) > 0 {
		return v.goOn(&begun[0])
	}
	var waiting Step
	for _, convicted := range v.inOrder(dems.Convicted) {
		step := Step{Action: Remove, Node: convicted.Node, Incarnation: convicted.Incarnation}
		reason := v.CannotSpare(convicted.Node)
		if reason == "" {
			return step
		}
		if waiting.Reason == "" {
			waiting = Step{Node: step.Node, Incarnation: step.Incarnation, Reason: reason}
		}
	}
	return waiting
}

// inOrder returns the standings of some conditions, those first that came about first.
func (v *View) inOrder(conditions ...dems.Condition) []dems.Standing {
	selected := slices.DeleteFunc(slices.Clone(v.Standings), func(s dems.Standing) bool {
		return !slices.Contains(conditions, s.Condition)
	})
	slices.SortFunc(selected, func(a, b dems.Standing) int {
		return cmp.Or(cmp.Compare(a.Since, b.Since), cmp.Compare(a.Node, b.Node))
	})
	return selected
}

// goOn returns the next step of a replacement that was begun.
func (v *View) goOn(s *dems.Standing) Step {
	step := Step{Node: s.Node, Incarnation: s.Incarnation}
	status, answers := v.Statuses[s.Node]
	switch {
	case s.Condition == dems.Rejoining:
		step.Action = Compare
	case !answers:
		step.Reason = fmt.Sprintf("%s does not answer", s.Node)
	case status.Incarnation != s.Incarnation:
		// A node has its next incarnation when all of the last one's data is gone. It need not be fresh any more: a leader that
		// added it and lost its office before that was committed may have sent it entries, and nothing that it promised that
		// leader has counted.
		step.Reason = fmt.Sprintf("%s is not emptied yet", s.Node)
	default:
		step.Action = AddNonvoter
	}
	return step
}

// CannotSpare returns why a node cannot be taken out now, "" if it can: as many of the other voters have to be healthy as
// decide today. With three nodes that is both others; with five, three of four. What does not vote can always go.
func (v *View) CannotSpare(id dems.NodeID) string {
	voters, healthy := 0, 0
	votes := false
	for _, member := range v.Members {
		if member.Suffrage != dems.Voter {
			continue
		}
		voters++
		if member.ID == id {
			votes = true
		} else if v.isHealthy(member) {
			healthy++
		}
	}
	if needed := voters/2 + 1; votes && healthy < needed {
		return fmt.Sprintf("%d of the other %d voters are healthy, %d are needed", healthy, voters-1, needed)
	}
	return ""
}

// isHealthy tells whether a member answers, has caught up with what it knew, and nobody found it wrong: one that an operator
// wants replaced need not be.
func (v *View) isHealthy(member dems.Member) bool {
	if slices.ContainsFunc(v.Standings, func(s dems.Standing) bool {
		return s.Node == member.ID && s.Condition != dems.Correct && !s.ByHand
	}) {
		return false
	}
	if member.ID == v.Self {
		return true
	}
	status, answers := v.Statuses[member.ID]
	return answers && status.Ready && status.Incarnation == member.Incarnation
}
