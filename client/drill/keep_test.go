package drill

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/client/drill/history"
	"dems/client/drill/report"
)

// TestKept reads what a drill has kept.
func TestKept(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "a", "b")
	r, w := play(t, 3, Config{Scenario: "leader-kill", Rounds: 1, Seed: 42, Keep: keep, Version: "v1", Command: "demsctl drill leader-kill"}, nil)
	expectPassed(t, r, 1)
	if len(r.Kept) != 3 {
		t.Fatalf("kept %q", r.Kept)
	}
	file, err := os.Open(filepath.Join(keep, HistoryFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	header, operations, err := history.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if header.Seed != 42 || len(operations) != len(w.recorder.Operations()) || uint64(len(operations)) != r.Operations.Tried {
		t.Errorf("%+v with %d operations, %d tried", header, len(operations), r.Operations.Tried)
	}
	text, err := os.ReadFile(filepath.Join(keep, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var read report.Report
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if !read.Passed || read.Seed != 42 || read.Cluster != "a played cluster" || len(read.Nodes) != 3 || read.Version != "v1" ||
		read.Command != "demsctl drill leader-kill" || len(read.Rounds) != 1 || len(read.Slices) == 0 || len(read.Leaders) != 2 || len(read.Kept) != 3 {
		t.Errorf("%s", text)
	}
	if page, err := os.ReadFile(filepath.Join(keep, "report.html")); err != nil || !strings.Contains(string(page), "killed the leader n1") {
		t.Errorf("%d bytes of a page, %v", len(page), err)
	}
}

// TestViolationsAreKept judges for real a history that nothing explains, and shows it on a page.
func TestViolationsAreKept(t *testing.T) {
	keep := t.TempDir()
	r, _ := play(t, 3, Config{Scenario: "slow-network", Rounds: 1, Keep: keep}, func(_ *world, d *drill) {
		d.judge = func(ctx context.Context, _ []history.Operation) Judgement {
			event := dems.EventKey{Type: dems.Seminar, ID: dems.EventID{City: dems.City{'T', 'O', 'R'}, Slot: dems.Morning, Date: dems.Date{Year: 50, Month: 1, Day: 1}}}
			manager := dems.UserID{City: event.ID.City, Role: dems.Manager, Number: 1}
			return Judge(ctx, []history.Operation{
				{Number: 1, Group: 3, Return: 1, Outcome: history.Answered, Command: dems.Command{Op: dems.AddEvent, By: manager, Event: event, Capacity: 2, Key: "k"},
					Result: dems.Result{Outcome: dems.Created, Sequence: 9, Event: dems.EventView{Key: event, Capacity: 2}}},
				{Number: 2, Group: 3, Call: 2, Return: 3, Outcome: history.Answered, Command: dems.Command{Op: dems.GetEvent, By: manager, Event: event},
					Result: dems.Result{Sequence: 9, Event: dems.EventView{Key: event, Capacity: 2, Booked: 1}}},
			})
		}
	})
	if r.Passed || r.Histories.NotLinearizable != 1 || len(r.Kept) != 4 || !strings.Contains(r.Objections()[0], "wrong answers") {
		t.Errorf("%+v, kept %q", r.Histories, r.Kept)
	}
	if page, err := os.ReadFile(filepath.Join(keep, "violation-group-3.html")); err != nil || !strings.Contains(string(page), "<html") {
		t.Errorf("%d bytes of a page, %v", len(page), err)
	}
}

// TestOrderIsJudged: two changes, one after the other, that stand in the log the other way round, though every answer could be right.
func TestOrderIsJudged(t *testing.T) {
	manager := dems.UserID{City: dems.City{'T', 'O', 'R'}, Role: dems.Manager, Number: 1}
	add := func(number uint64, day uint8, sequence uint64) history.Operation {
		event := dems.EventKey{Type: dems.Seminar, ID: dems.EventID{City: manager.City, Slot: dems.Morning, Date: dems.Date{Year: 50, Month: 1, Day: day}}}
		at := time.Duration(2*number) * time.Second
		return history.Operation{
			Number: number, Group: int(number), Call: at, Return: at + time.Second, Outcome: history.Answered,
			Command: dems.Command{Op: dems.AddEvent, By: manager, Event: event, Capacity: 2},
			Result:  dems.Result{Outcome: dems.Created, Sequence: sequence, Event: dems.EventView{Key: event, Capacity: 2}},
		}
	}
	for _, test := range []struct{ first, second, broken uint64 }{{8, 9, 0}, {9, 8, 1}, {9, 9, 1}} {
		judged := Judge(t.Context(), []history.Operation{add(1, 1, test.first), add(2, 2, test.second)})
		if judged.Order.Broken != test.broken || len(judged.Order.Examples) != int(test.broken) || judged.Wrong.Broken != 0 {
			t.Errorf("%+v: %+v", test, judged)
		}
	}
}

// TestFolderThatIsNotFree: nothing is written over, and nothing is begun.
func TestFolderThatIsNotFree(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, keep := range []string{folder, file, filepath.Join(file, "below")} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 3)
			if _, err := w.drill(Config{Scenario: "pause", Keep: keep}).run(t.Context()); err == nil || !strings.Contains(err.Error(), "--keep") {
				t.Errorf("%s: %v", keep, err)
			}
			if w.ran {
				t.Errorf("%s: it began all the same", keep)
			}
		})
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestFilesThatCannotBeWritten: there is a report all the same, and an error.
func TestFilesThatCannotBeWritten(t *testing.T) {
	keep := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		w.hook = func(done string) {
			if strings.HasPrefix(done, "kill") {
				if err := os.WriteFile(filepath.Join(keep, HistoryFile), nil, 0o600); err != nil {
					t.Error(err)
				}
			}
		}
		r, err := w.drill(Config{Scenario: "leader-kill", Rounds: 1, Keep: keep}).run(t.Context())
		if err == nil || !strings.Contains(err.Error(), HistoryFile) || r == nil || !r.Passed {
			t.Errorf("%v, %+v", err, r)
		}
		w.stop()
	})
	if text, err := os.ReadFile(filepath.Join(keep, "report.json")); err != nil || !json.Valid(text) {
		t.Errorf("%q, %v", text, err)
	}
}
