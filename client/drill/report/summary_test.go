package report

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestSummaries(t *testing.T) {
	report := Report{Rounds: []Round{
		{Scenario: "leader-kill", EndedAt: 1, ElectMS: 30, RepairMS: 900, WritePauseMS: 40, Unanswered: 1},
		{Scenario: "wrong-state", EndedAt: 2, ConvictMS: 500, ReadPauseMS: 3},
		{Scenario: "leader-kill", EndedAt: 3, ElectMS: 10, WritePauseMS: 20, Unanswered: 2},
		{Scenario: "leader-kill", EndedAt: 0, ElectMS: 20, WritePauseMS: 0},
		{Scenario: "leader-kill", EndedAt: 5, ElectMS: 0, WritePauseMS: 70},
	}}
	want := []Summary{
		{
			Scenario: "leader-kill", Rounds: 4, Ended: 3, Elect: Spread{3, 20, 30}, Repair: Spread{1, 900, 900},
			WritePause: Spread{4, 20, 70}, ReadPause: Spread{Count: 4}, Unanswered: 3,
		},
		{Scenario: "wrong-state", Rounds: 1, Ended: 1, Convict: Spread{1, 500, 500}, WritePause: Spread{Count: 1}, ReadPause: Spread{1, 3, 3}},
	}
	if difference := gocmp.Diff(want, report.Summaries()); difference != "" {
		t.Error(difference)
	}
	total := Summary{
		Rounds: 5, Ended: 4, Elect: Spread{3, 20, 30}, Convict: Spread{1, 500, 500}, Repair: Spread{1, 900, 900},
		WritePause: Spread{5, 20, 70}, ReadPause: Spread{5, 0, 3}, Unanswered: 3,
	}
	if difference := gocmp.Diff(total, report.Total()); difference != "" {
		t.Error(difference)
	}
	if none := new(Report); len(none.Summaries()) != 0 || none.Total() != (Summary{}) {
		t.Errorf("without rounds: %v, %v", none.Summaries(), none.Total())
	}
}
