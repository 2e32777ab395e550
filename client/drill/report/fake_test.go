package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"dems"
	"dems/client/drill/history"
)

// outage is a time in which what a drill broke can be felt.
type outage struct {
	from, to time.Duration
	writes   bool // wait until it is over; else everything is slow
	gaveUp   float64
}

// fake makes up the report of a drill of a minute against three nodes, the same for the same seed: killed leaders, a partition,
// a node that answers wrongly, one that is slow, one that is mute.
func fake(seed uint64) *Report {
	random := rand.New(rand.NewPCG(seed, 4))
	report := &Report{
		Version: "v1.4.0", Scenario: "all", Seed: seed, Command: fmt.Sprintf("demsctl drill all --seed %d --duration 1m", seed),
		Cluster: "three nodes and two front ends on this machine", Nodes: []string{"n1", "n2", "n3"},
		Began: time.Date(2026, 11, 22, 11, 35, 37, 0, time.UTC), Seconds: 60,
		Histories: Histories{Checked: 32, Operations: 50_000, Seconds: 1.84},
		Kept:      []string{"report.json", "report.html", "history.jsonl", "demsd-n1.log", "demsd-n2.log", "demsd-n3.log"},
	}
	for _, invariant := range [][2]string{
		{"lost", "What was acknowledged is there at the end, unless something acknowledged later took it away."},
		{"double-applied", "No operation took effect twice, however often it was sent."},
		{"oversold", "No event has more bookings than seats."},
		{"wrong answers", "No answer differs from what the order of all operations gives."},
		{"nodes that differ", "At the end every node has the same state digest and the same city logs."},
	} {
		report.Invariants = append(report.Invariants, Invariant{Name: invariant[0], Meaning: invariant[1]})
	}
	story := story{Report: report, random: random, leader: "n2", term: 3, sequence: 17}
	scenarios := []string{"leader-kill", "partition", "wrong-state", "leader-kill", "slow", "mute", "leader-kill"}
	for i, scenario := range scenarios {
		story.round(scenario, 3.5+float64(i)*8+random.Float64())
	}
	report.Leaders = append(report.Leaders, Leader{Node: story.leader, Term: story.term, From: story.led, To: 60})
	operations := story.load(24)
	report.Histories.Operations = len(operations)
	report.Measure(operations)
	report.Decide()
	return report
}

// failed is a fake drill that found something.
func failed(seed uint64) *Report {
	report := fake(seed)
	report.Invariants[2].Broken = 2
	report.Invariants[2].Examples = []string{
		"seminar/TORM100519 has 4 bookings of 3 seats: MTLC0001, MTLC0007, OTWC0003, TORC0002",
		"conference/OTWE110519 has 2 bookings of 1 seat: MTLC0004, TORC0009",
	}
	report.Histories.NotLinearizable, report.Histories.Undecided = 1, 1
	report.Histories.Examples = []string{"group 11: operation 20417, getEvent, answered 3 seats, which no order of the 812 operations gives"}
	report.Rounds[len(report.Rounds)-1].EndedAt, report.Rounds[len(report.Rounds)-1].RepairMS = 0, 0
	report.Notes = []string{"Interrupted after 60 s; the last round was not waited for."}
	report.Decide()
	return report
}

// story is a drill that is being made up.
type story struct {
	*Report
	random   *rand.Rand
	leader   string
	term     uint64
	led      float64 // since when
	sequence uint64
	outages  []outage
}

func (s *story) between(low, high float64) float64 { return low + s.random.Float64()*(high-low) }

func (s *story) incident(at float64, kind, node, by, detail string) {
	s.sequence += uint64(1 + s.random.IntN(400))
	s.Incidents = append(s.Incidents, Incident{At: at, Sequence: s.sequence, Kind: kind, Node: node, By: by, Detail: detail})
}

func (s *story) outage(from, to float64, writes bool, gaveUp float64) {
	at := func(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
	s.outages = append(s.outages, outage{from: at(from), to: at(to), writes: writes, gaveUp: gaveUp})
}

// elect lets another node lead.
func (s *story) elect(at, elected float64) {
	s.Leaders = append(s.Leaders, Leader{Node: s.leader, Term: s.term, From: s.led, To: at}, Leader{From: at, To: elected})
	for before := s.leader; s.leader == before; {
		s.leader = s.Nodes[s.random.IntN(len(s.Nodes))]
	}
	s.term, s.led = s.term+1, elected
	s.incident(elected, "leader-change", s.leader, "", fmt.Sprintf("%s leads in term %d", s.leader, s.term))
}

func (s *story) round(scenario string, at float64) {
	number := 1
	for _, round := range s.Rounds {
		if round.Scenario == scenario {
			number++
		}
	}
	round := Round{Scenario: scenario, Number: number, At: at}
	follower := "n1"
	if s.leader == follower {
		follower = "n3"
	}
	switch round.Node = follower; scenario {
	case "leader-kill":
		round.Node = s.leader
		round.What = "killed the leader " + s.leader
		elected := at + s.between(0.2, 0.45)
		round.ElectMS, round.RepairMS = (elected-at)*1000, s.between(2500, 4500)
		s.outage(at, elected+0.05, true, 0.2)
		s.elect(at, elected)
		s.incident(at+0.8, "suspicion", round.Node, s.leader, round.Node+" does not answer")
		s.incident(at+round.RepairMS/1000, "recovery", round.Node, s.leader, round.Node+" answers again")
	case "partition":
		round.Node = s.leader
		round.What = "cut the leader " + s.leader + " off from the others"
		elected := at + s.between(1.1, 1.6)
		round.ElectMS, round.RepairMS = (elected-at)*1000, s.between(4000, 5000)
		s.outage(at, elected, true, 0.6)
		s.elect(at, elected)
	case "wrong-state":
		round.What = "altered the state of " + follower
		round.ConvictMS, round.RepairMS = s.between(700, 1300), s.between(3800, 5200)
		s.incident(at+round.ConvictMS/1000-0.3, "accusation", follower, "fe1", "three wrong answers in a row")
		s.incident(at+round.ConvictMS/1000-0.2, "verdict", follower, s.leader, "another state at index 20417")
		s.incident(at+round.ConvictMS/1000, "conviction", follower, "", "found wrong by n2 and n3")
		s.incident(at+round.ConvictMS/1000+0.4, "removal", follower, "", "its data is emptied")
		s.incident(at+round.RepairMS/1000, "readdition", follower, "", "it votes again as its next incarnation")
	default:
		round.What = "made " + follower + " " + scenario
		round.RepairMS = s.between(2000, 3000)
		s.outage(at, at+2, false, 0)
		s.incident(at+0.9, "suspicion", follower, s.leader, follower+" does not answer")
		s.incident(at+2.4, "recovery", follower, s.leader, follower+" answers again")
	}
	round.HealedAt = at + round.RepairMS/1000*0.5
	round.EndedAt = at + round.RepairMS/1000 + 0.2
	s.Rounds = append(s.Rounds, round)
}

// load lets clients ask and wait, one operation after the other.
func (s *story) load(clients int) (operations []history.Operation) {
	for client := range clients {
		for now := time.Duration(client) * time.Millisecond; now.Seconds() < s.Seconds-0.1; {
			operation := history.Operation{
				Number: uint64(len(operations) + 1), Group: client, Client: client, Call: now, Command: dems.Command{Op: dems.GetEvent},
				Outcome: history.Answered,
			}
			typical := 1.4
			if s.random.IntN(2) == 0 {
				operation.Command.Op, typical = dems.BookEvent, 4.5
			}
			if s.random.IntN(20) == 0 {
				operation.Result.Code = dems.EventFull
			}
			took := time.Duration(typical * math.Exp(s.random.NormFloat64()*0.35) * float64(time.Millisecond))
			for _, outage := range s.outages {
				switch within := now >= outage.from && now < outage.to; {
				case within && outage.writes && operation.Command.Op.Mutates():
					took += outage.to - now
					if s.random.Float64() < outage.gaveUp {
						operation.Outcome = history.Failed + history.Outcome(s.random.IntN(2))
					}
				case within:
					took *= time.Duration(2 + s.random.IntN(8))
				}
			}
			operation.Return = now + took
			operations = append(operations, operation)
			now = operation.Return + time.Duration(s.between(5, 45)*float64(time.Millisecond))
		}
	}
	return operations
}
