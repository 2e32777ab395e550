package fsm

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dems"
)

var update = flag.Bool("update", false, "write what the transcripts in testdata come to, instead of comparing")

// TestTranscripts runs the stories in testdata. A line that is not indented is a step:
//
//	TORM0001 addEvent TORM100519 seminar 2          USER OPERATION PARAMETERS
//	TORM0001 bookEvent for=MTLC0001 TORM100519 seminar
//	query TORC0001 getBookingSchedule               the same as a query
//	log TOR                                         the records that came to a city's log since it was last shown
//	registry
//	configuration n1 n2.3 n4?                       a configuration: IDs with incarnations other than 1; ? is a nonvoter
//	node n2.3                                       registers a node
//	verdict n1 n2                                   n1 finds n2 wrong
//	replacement n2 automatic                        asks for n2 to be replaced; without the word, by hand
//	incident suspicion n2                           reports an incident
//	standings
//	incidents 7                                     all from index 7 on
//	snapshot                                        goes on with a machine restored from a snapshot
//	wait 2h                                         lets time pass
//	# comment
//
// What is indented under it is what came of it. go test ./fsm -run Transcripts -update writes it anew.
func TestTranscripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := runTranscript(t, string(want))
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			} else if !bytes.Equal(got, want) {
				t.Errorf("%s differs; it came to this:\n%s", path, firstDifference(string(got), string(want)))
			}
		})
	}
}

func firstDifference(got, want string) string {
	gotLines, wantLines := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	for i := range gotLines {
		if i >= len(wantLines) || gotLines[i] != wantLines[i] {
			from := max(0, i-5)
			expected := ""
			if i < len(wantLines) {
				expected = wantLines[i]
			}
			return strings.Join(gotLines[from:i+1], "") + "instead of\n" + expected
		}
	}
	return "the end is missing"
}

// transcript is a story being told.
type transcript struct {
	*harness
	logs map[dems.City][]string // records not yet shown
	out  bytes.Buffer
}

func runTranscript(t *testing.T, text string) []byte {
	story := &transcript{harness: newHarness(t), logs: map[dems.City][]string{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue
		}
		story.out.WriteString(line + "\n")
		if line != "" && !strings.HasPrefix(line, "#") {
			story.step(strings.Fields(line))
		}
	}
	return story.out.Bytes()
}

func (s *transcript) print(format string, arguments ...any) {
	fmt.Fprintf(&s.out, "  "+format+"\n", arguments...)
}

func (s *transcript) step(words []string) {
	switch words[0] {
	case "query":
		s.ask(words[1:])
	case "log":
		city, _ := dems.ParseCity(words[1])
		for _, record := range s.logs[city] {
			s.print("%s", record)
		}
		delete(s.logs, city)
	case "registry":
		for _, r := range s.machine.Registry().Nodes {
			s.print("%s.%d at %s", r.ID, r.Incarnation, r.Address)
		}
		for _, r := range s.machine.Registry().FrontEnds {
			s.print("%s at %s", r.ID, r.Address)
		}
	case "snapshot":
		s.restore()
	case "wait":
		duration, err := time.ParseDuration(words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(duration)
	default:
		if !s.stepOfCluster(words) {
			s.operate(words)
		}
	}
}

// operate parses a step as an operation, applies it as a batch and prints its result.
func (s *transcript) operate(words []string) {
	command, err := s.machine.Cities().Parse(request(words))
	if err != nil {
		s.print("not sent: %s", dems.CodeOf(err))
		return
	}
	result := s.do(command)[0]
	for _, record := range s.last.Records {
		line := strings.TrimSuffix(string(record.Line), "\n")
		s.logs[record.City] = append(s.logs[record.City], fmt.Sprintf("%d %s", record.Number, line))
	}
	s.show(&result)
}

func (s *transcript) ask(words []string) {
	command, err := s.machine.Cities().Parse(request(words))
	if err != nil {
		s.print("not sent: %s", dems.CodeOf(err))
		return
	}
	answer := s.machine.Query(&dems.Query{Kind: dems.OperationQuery, Command: command})
	results, err := dems.DecodeResults(answer.Result)
	if err != nil {
		s.t.Fatal(err)
	}
	s.print("version %d", answer.Version)
	s.show(&results[0])
}

func (s *transcript) show(r *dems.Result) {
	words := []string{r.Code.String()}
	if r.Outcome != dems.NoOutcome {
		words = append(words, r.Outcome.String())
	}
	if r.Old != (dems.EventKey{}) {
		words = append(words, r.Old.String(), "for")
	}
	if r.Booking != (dems.EventKey{}) {
		words = append(words, r.Booking.String())
	}
	if r.Customer != (dems.UserID{}) {
		words = append(words, "of", r.Customer.String())
	}
	if r.Event != (dems.EventView{}) {
		words = append(words, view(&r.Event))
	}
	if r.Replayed {
		words = append(words, fmt.Sprintf("(replayed from %d)", r.Sequence))
	}
	s.print("%s", strings.Join(words, " "))
	for _, affected := range r.Affected {
		if affected.Outcome == dems.Rebooked {
			s.print("  %s rebooked to %s", affected.Customer, affected.Event)
		} else {
			s.print("  %s %s", affected.Customer, affected.Outcome)
		}
	}
	for i := range r.Events {
		s.print("  %s", view(&r.Events[i]))
	}
	for _, booking := range r.Bookings {
		s.print("  %s", booking)
	}
}

func view(e *dems.EventView) string { return fmt.Sprintf("%s %d of %d", e.Key, e.Booked, e.Capacity) }

// restore replaces the machine by one restored from its snapshot.
func (s *transcript) restore() {
	restored := restoredFrom(s.t, s.machine)
	s.print("restored: %t", restored.Digest() == s.machine.Digest())
	s.machine = restored
}

// request reads USER OPERATION PARAMETERS; key=… and for=… may stand anywhere among the parameters.
func request(words []string) dems.Request {
	r := dems.Request{By: words[0], Op: words[1], CustomerID: words[0]}
	var rest []string
	for _, word := range words[2:] {
		if value, found := strings.CutPrefix(word, "key="); found {
			r.Key, r.KeyGiven = value, true
		} else if value, found := strings.CutPrefix(word, "for="); found {
			r.CustomerID = value
		} else {
			rest = append(rest, word)
		}
	}
	parameter := func(i int) string {
		if i < len(rest) {
			return rest[i]
		}
		return ""
	}
	switch r.Op {
	case "listEventAvailability":
		r.EventType = parameter(0)
	case "swapEvent": // NEW for OLD
		r.NewEventID, r.NewEventType, r.OldEventID, r.OldEventType = parameter(0), parameter(1), parameter(2), parameter(3)
	default:
		r.EventID, r.EventType = parameter(0), parameter(1)
		r.Capacity, r.Bookings = parameter(2), parameter(2)
		if r.Op == "addEvent" {
			r.Bookings = ""
		}
	}
	return r
}
