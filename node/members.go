package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dems"
	"dems/fsm"
	"dems/node/verdict"
	"dems/transport"

	"github.com/hashicorp/raft"
)

// What replica managers are told and asked.

const (
	// maxNotes is how many notes wait to become incidents. More are dropped: an incident is for people and tells of a state
	// that goes on.
	maxNotes = 64
	// notePause is how long the same incident is kept back after it was recorded, or may have been.
	notePause = 10 * time.Second
	// maxNoted is how many incidents are remembered for that; beyond it all are forgotten.
	maxNoted = 256
	// healthInterval is how often the leader asks whether the members answer.
	healthInterval = time.Second
	// missedAnswers is how many times in a row a member has not to answer before that is an incident.
	missedAnswers = 2
)

// note is something that the leader makes an incident of.
type note struct {
	incident dems.Incident
	repeats  string // what makes it the same as another one; "" if it never is
}

// Report implements transport.Handler. What front ends say is believed only where this node's own records say the same.
func (n *Node) Report(ctx context.Context, report dems.Report) error {
	if _, err := n.running(); err != nil {
		return replicaError(dems.NotReady, err)
	}
	_, by, _ := transport.Caller(ctx)
	incident := dems.Incident{
		Node: report.Node, Incarnation: report.Incarnation, By: by, Expected: report.Expected, Answered: report.Answered,
	}
	switch report.Kind {
	case dems.WrongAnswerReport:
		n.logger.Info("a front end reports a wrong answer", "by", by, "of", incarnation{report.Node, report.Incarnation},
			"in a row", report.Strikes)
		return nil
	case dems.AccusationReport:
		s := n.standing()
		if !s.has(report.Node, report.Incarnation) { // names that are made up would crowd out what matters
			return replicaError(dems.BadRequest, fmt.Errorf("%s is no member", incarnation{report.Node, report.Incarnation}))
		}
		n.manager.accuse(&report, time.Now())
		incident.Kind = dems.AccusationIncident
		incident.Detail = truncated("%d wrong answers in a row", report.Strikes)
		if len(report.Indexes) > 0 {
			incident.Index = report.Indexes[len(report.Indexes)-1]
		}
	case dems.NoMajorityReport:
		incident.Kind = dems.NoMajorityIncident
		incident.Node, incident.Incarnation = "", 0
		incident.Detail = "no answer had a majority; the nodes disagree"
	default:
		return replicaError(dems.BadRequest, fmt.Errorf("unknown kind %d of report", report.Kind))
	}
	n.note(incident, fmt.Sprint(incident.Kind, by, report.Node, report.Incarnation))
	return nil
}

// note has an incident recorded if this node leads.
func (n *Node) note(incident dems.Incident, repeats string) {
	if !n.isLeader() {
		return
	}
	incident.Time = now()
	select {
	case n.manager.notes <- note{incident, repeats}:
	default:
	}
}

// recordIncidents puts incidents into the log until ctx ends.
func (n *Node) recordIncidents(ctx context.Context) {
	noted := make(map[string]time.Time)
	for {
		var next note
		select {
		case <-ctx.Done():
			return
		case next = <-n.manager.notes:
		}
		if next.repeats != "" {
			if time.Since(noted[next.repeats]) < notePause {
				continue
			}
			if len(noted) >= maxNoted {
				clear(noted)
			}
			noted[next.repeats] = time.Now()
		}
		if err := n.proposeEntry(ctx, dems.Entry{Kind: dems.IncidentEntry, Incident: next.incident}); err != nil {
			n.logger.Debug("incident", "kind", next.incident.Kind, "error", err)
			if failed, ok := errors.AsType[*dems.ReplicaError](err); ok && (failed.Kind == dems.NotApplied || failed.Kind == dems.NotLeader) {
				delete(noted, next.repeats) // whoever notices again may try again
			}
		}
	}
}

// Replace implements transport.Handler. It returns when it is decided that the node is replaced; the replacement itself
// takes its time.
func (n *Node) Replace(ctx context.Context, id dems.NodeID) error {
	r, err := n.running()
	if err != nil {
		return replicaError(dems.NotApplied, err)
	}
	if r.State() != raft.Leader {
		return raftError(raft.ErrNotLeader, n.leader())
	}
	s := n.standing()
	own, known := s.of(id)
	if !known {
		return replicaError(dems.BadRequest, fmt.Errorf("%s has never been a member", id))
	}
	view := verdict.View{Self: n.config.ID, Standings: s.standings, Members: s.members, Statuses: n.statusesOf(ctx, n.config.peers())}
	if reason := view.CannotSpare(id); reason != "" {
		return replicaError(dems.BadRequest, errors.New(reason))
	}
	_, by, _ := transport.Caller(ctx)
	return n.proposeEntry(ctx, dems.Entry{Kind: dems.ReplacementEntry, Replacement: dems.Replacement{
		Node: id, Incarnation: own.Incarnation, By: by, Cause: "asked for by an operator", Time: now(),
	}})
}

// life is one incarnation of a node.
type life struct {
	id          dems.NodeID
	incarnation uint64
}

// watchHealth records, while this node leads, which members stop answering and which answer again.
func (n *Node) watchHealth(ctx context.Context) {
	missed := make(map[life]int) // answers in a row, of those that missed any
	for wait(ctx, healthInterval) {
		if !n.isLeader() || !n.isReady() {
			clear(missed)
			continue
		}
		statuses := n.statusesOf(ctx, n.config.peers())
		before := missed
		missed = make(map[life]int)
		for _, member := range n.standing().members {
			of := life{member.ID, member.Incarnation}
			if _, answers := statuses[member.ID]; !answers && member.ID != n.config.ID { // it may have been suspected itself
				missed[of] = before[of] + 1
			}
			n.noteHealth(of, missed[of])
		}
	}
}

// noteHealth has recorded what has changed since the last incident about a node. That is the state's, so that nothing stays
// untold where one leader suspects a node and another one hears of it again, or where an incident could not be recorded.
func (n *Node) noteHealth(of life, missed int) {
	last := n.lastHealth(of)
	incident := dems.Incident{Node: of.id, Incarnation: of.incarnation, By: string(n.config.ID)}
	switch suspected := last.Kind == dems.SuspicionIncident; {
	case suspected && missed == 0:
		incident.Kind, incident.Detail = dems.RecoveryIncident, "answers again"
	case !suspected && missed >= missedAnswers:
		incident.Kind, incident.Detail = dems.SuspicionIncident, "does not answer"
	default:
		return
	}
	n.noteChange(incident, last)
}

// lastHealth returns the last suspicion or recovery of a node in this cluster; those before a backup that the cluster was restored
// from are about other nodes.
func (n *Node) lastHealth(of life) (last dems.Incident) {
	n.state.view(func(machine *fsm.Machine) {
		last, _ = machine.LastHealth(of.id, of.incarnation, n.folder.Marker.Origin.Index)
	})
	return last
}

// noteChange has a suspicion or a recovery recorded, the same one after the last one only once.
func (n *Node) noteChange(incident, last dems.Incident) {
	n.note(incident, fmt.Sprintf("%v %s.%d %d", incident.Kind, incident.Node, incident.Incarnation, last.Sequence))
}

// members translates Raft's configuration. Addresses are not part of it.
func members(servers []raft.Server) []dems.Member {
	all := make([]dems.Member, len(servers))
	for i, server := range servers {
		id, number, _ := strings.Cut(string(server.ID), ".")
		all[i] = dems.Member{ID: dems.NodeID(id), Suffrage: dems.Nonvoter}
		all[i].Incarnation, _ = strconv.ParseUint(number, 10, 64) // serverID wrote it
		if server.Suffrage == raft.Voter {
			all[i].Suffrage = dems.Voter
		}
	}
	return all
}
