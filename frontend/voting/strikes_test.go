package voting

import (
	"strings"
	"testing"
	"time"

	"dems"
)

var start = time.Unix(1000, 0)

func TestStrikes(t *testing.T) {
	var s Strikes
	wrong := func(index uint64, after time.Duration) (dems.Report, bool) {
		return s.Wrong("n1", 1, Evidence{Index: index, Expected: "e", Answered: "a"}, start.Add(after))
	}
	for i, want := range []dems.ReportKind{dems.WrongAnswerReport, dems.WrongAnswerReport, dems.AccusationReport} {
		report, due := wrong(uint64(30-i), 0)
		if !due || report.Kind != want || report.Strikes != i+1 || len(report.Indexes) != i+1 {
			t.Fatalf("report %d: %v %+v", i+1, due, report)
		}
	}
	if report, due := wrong(31, AccusationPause-1); due {
		t.Errorf("accused again too soon: %+v", report)
	}
	report, due := wrong(32, AccusationPause)
	want := dems.Report{
		Kind: dems.AccusationReport, Node: "n1", Incarnation: 1, Strikes: 5, Indexes: []uint64{28, 29, 30, 31, 32}, Expected: "e", Answered: "a",
	}
	if !due {
		t.Error("not accused again")
	}
	equal(t, want, report)
	equal(t, 5, s.Of("n1", 1))
	equal(t, 0, s.Of("n2", 1))
	equal(t, 1, s.Any())
}

func TestRightAnswerResets(t *testing.T) {
	var s Strikes
	s.Right("n1", 1)
	for range 10 {
		for strikes := 1; strikes < Enough; strikes++ {
			if report, due := s.Wrong("n1", 1, Evidence{}, start); !due || report.Strikes != strikes || report.Kind != dems.WrongAnswerReport {
				t.Fatalf("got %+v", report)
			}
		}
		s.Right("n2", 1)
		equal(t, Enough-1, s.Of("n1", 1))
		s.Right("n1", 1)
		equal(t, 0, s.Any())
	}
}

func TestLivesAreCountedApart(t *testing.T) {
	var s Strikes
	for range Enough {
		s.Wrong("n1", 1, Evidence{Index: 5}, start)
	}
	if report, due := s.Wrong("n1", 2, Evidence{Index: 9}, start); !due || report.Strikes != 1 || report.Incarnation != 2 || len(report.Indexes) != 1 {
		t.Errorf("the new life begins with %+v", report)
	}
	if report, due := s.Wrong("n1", 1, Evidence{}, start.Add(time.Hour)); due {
		t.Errorf("the old life is still counted: %+v", report)
	}
	s.Right("n1", 1)
	equal(t, 1, s.Of("n1", 2))
	equal(t, 0, s.Of("n1", 1))
	if _, due := s.Prove("n1", 1, 7, start); due {
		t.Error("evidence against the old life counts")
	}
	s.Right("n1", 3)
	equal(t, 0, s.Any())
}

// The newest log entries are named, in order, each once.
func TestIndexes(t *testing.T) {
	var s Strikes
	for index := range uint64(20) {
		s.Wrong("n1", 1, Evidence{Index: index / 2 * 2}, start)
	}
	report, due := s.Wrong("n1", 1, Evidence{Index: 3}, start.Add(AccusationPause))
	if !due {
		t.Fatal("not accused again")
	}
	equal(t, []uint64{4, 6, 8, 10, 12, 14, 16, 18}, report.Indexes)
}

// Wrong reads have no log entry. The accusation is repeated at once when one is found that proves them.
func TestEvidenceComesLater(t *testing.T) {
	var s Strikes
	if _, due := s.Prove("n1", 1, 7, start); due {
		t.Error("accused without a wrong answer")
	}
	for strikes := 1; strikes <= Enough; strikes++ {
		if report, due := s.Wrong("n1", 1, Evidence{}, start); !due || report.Strikes != strikes || len(report.Indexes) != 0 {
			t.Fatalf("got %+v", report)
		}
	}
	report, due := s.Prove("n1", 1, 7, start.Add(time.Millisecond))
	if !due || report.Kind != dems.AccusationReport {
		t.Errorf("got %v %+v", due, report)
	}
	equal(t, []uint64{7}, report.Indexes)
	if report, due := s.Prove("n1", 1, 8, start.Add(2*time.Millisecond)); due {
		t.Errorf("accused again too soon: %+v", report)
	}
	var early Strikes
	early.Wrong("n1", 1, Evidence{}, start)
	if report, due := early.Prove("n1", 1, 7, start); due {
		t.Errorf("one wrong answer is no accusation: %+v", report)
	}
	if report, _ := early.Wrong("n1", 1, Evidence{}, start); len(report.Indexes) != 1 {
		t.Errorf("the evidence is lost: %+v", report)
	}
}

// The proof comes after a right answer to something that the node was not asked to spoil.
func TestEvidenceComesAfterARightAnswer(t *testing.T) {
	accused := func() *Strikes {
		var s Strikes
		for range Enough {
			s.Wrong("n1", 1, Evidence{Answered: "wrong"}, start)
		}
		s.Right("n1", 1)
		return &s
	}
	s := accused()
	report, due := s.Prove("n1", 1, 7, start.Add(time.Second))
	if !due || report.Kind != dems.AccusationReport || report.Strikes != Enough || report.Answered != "wrong" {
		t.Errorf("got %v %+v", due, report)
	}
	equal(t, []uint64{7}, report.Indexes)
	if report, due := s.Prove("n1", 1, 8, start.Add(time.Second)); due {
		t.Errorf("accused twice: %+v", report)
	}
	if report, due := accused().Prove("n1", 1, 7, start.Add(ProofTime+1)); due {
		t.Errorf("too late: %+v", report)
	}
	if report, due := accused().Prove("n1", 2, 7, start); due {
		t.Errorf("another life: %+v", report)
	}
	var proven Strikes
	for range Enough {
		proven.Wrong("n1", 1, Evidence{Index: 5}, start)
	}
	proven.Right("n1", 1)
	if report, due := proven.Prove("n1", 1, 7, start.Add(time.Second)); due {
		t.Errorf("it was accused with an entry before: %+v", report)
	}
}

func TestTextsAreCut(t *testing.T) {
	var s Strikes
	report, _ := s.Wrong("n1", 1, Evidence{Expected: strings.Repeat("é", 200), Answered: strings.Repeat("a", 300)}, start)
	if len(report.Expected) != dems.MaxEvidenceBytes || len(report.Answered) != dems.MaxEvidenceBytes {
		t.Errorf("%d and %d bytes", len(report.Expected), len(report.Answered))
	}
	report, _ = s.Wrong("n1", 1, Evidence{Expected: "x" + strings.Repeat("é", 200)}, start)
	if len(report.Expected) != dems.MaxEvidenceBytes-1 {
		t.Errorf("half a character is kept: %d bytes", len(report.Expected))
	}
}
