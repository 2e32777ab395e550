package client_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/client"
	"dems/internal/onenode"
)

// withLog is a change of configuration that keeps a user log in a folder.
func withLog(t *testing.T, folder string) func(*client.Config) {
	t.Helper()
	log, err := client.OpenUserLog(folder)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *client.Config) {
		c.UserLog = log
		c.Timeout = 900 * time.Millisecond
	}
}

// record is a line of a user log.
type record map[string]any

func readLog(t *testing.T, folder, user string) []record {
	t.Helper()
	file, err := os.Open(filepath.Join(folder, user+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var records []record
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		var r record
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			t.Fatalf("line %q: %v", scanner.Text(), err)
		}
		if when, err := time.Parse(time.RFC3339, r["time"].(string)); err != nil || when.Location() != time.UTC {
			t.Errorf("time %v", r["time"])
		}
		delete(r, "time")
		records = append(records, r)
	}
	return records
}

func TestUserLogTellsWhatWasAskedAndWhatCame(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "a", "b")
	s := start(t, "TORM0001", 1, withLog(t, folder))
	event := eventKey(t, dems.Seminar, "TORM100519")
	if _, err := s.AddEvent(t.Context(), event, 3, client.WithKey("k1")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.BookEvent(t.Context(), userID(t, "MTLC0001"), event, client.WithKey("k2")); err != nil {
		t.Fatal(err)
	}
	_, err := s.BookEvent(t.Context(), userID(t, "MTLC0001"), event, client.WithKey("k3"))
	wantError(t, err, dems.AlreadyBooked)
	records := readLog(t, folder, "TORM0001")
	for i, expected := range []struct {
		id, op, status string
		sequence       bool
		response       string
	}{
		{"k1", "addEvent", "sent", false, `"none yet"`},
		{"k1", "addEvent", "completed", true, `{"event":{"available":3,"booked":0,"capacity":3,"city":"TOR","eventID":"TORM100519","eventType":"seminar"},"outcome":"created"}`},
		{"k2", "bookEvent", "sent", false, `"none yet"`},
		{"k2", "bookEvent", "completed", true, `{"booking":{"customerID":"MTLC0001","eventID":"TORM100519","eventType":"seminar"},"outcome":"booked"}`},
		{"k3", "bookEvent", "sent", false, `"none yet"`},
		{"k3", "bookEvent", "failed", true, `{"code":"already_booked","detail":"` + dems.AlreadyBooked.Advice() + `"}`},
	} {
		if i >= len(records) {
			t.Fatalf("%d records, want 6", len(records))
		}
		r := records[i]
		response, err := json.Marshal(r["response"])
		if err != nil {
			t.Fatal(err)
		}
		_, sequence := r["sequence"]
		if r["id"] != expected.id || r["op"] != expected.op || r["status"] != expected.status || r["by"] != "TORM0001" ||
			r["eventID"] != "TORM100519" || r["eventType"] != "seminar" || sequence != expected.sequence || string(response) != expected.response {
			t.Errorf("record %d: %v\nresponse %s\nwant %+v", i, r, response, expected)
		}
	}
	if records[0]["capacity"] != 3.0 || records[2]["customerID"] != "MTLC0001" {
		t.Errorf("parameters are missing: %v %v", records[0], records[2])
	}
}

// TestParametersInTheUserLog does each operation in vain and looks at what the log says was asked for.
func TestParametersInTheUserLog(t *testing.T) {
	folder := t.TempDir()
	s := start(t, "TORM0001", 1, withLog(t, folder))
	ctx, customer := t.Context(), userID(t, "MTLC0001")
	seminar, conference := eventKey(t, dems.Seminar, "TORM100519"), eventKey(t, dems.Conference, "MTLA110519")
	s.RemoveEvent(ctx, seminar, dems.CancelBookings)
	s.GetEvent(ctx, seminar)
	s.ListEventAvailability(ctx, dems.TradeShow)
	s.GetBookingSchedule(ctx, customer)
	s.CancelEvent(ctx, customer, dems.EventKey{ID: seminar.ID})
	s.SwapEvent(ctx, customer, conference, seminar)
	records := readLog(t, folder, "TORM0001")
	for i, want := range []string{
		`{"bookings":"cancel","eventID":"TORM100519","eventType":"seminar","op":"removeEvent"}`,
		`{"eventID":"TORM100519","eventType":"seminar","op":"getEvent"}`,
		`{"eventType":"tradeshow","op":"listEventAvailability"}`,
		`{"customerID":"MTLC0001","op":"getBookingSchedule"}`,
		`{"customerID":"MTLC0001","eventID":"TORM100519","op":"cancelEvent"}`,
		`{"customerID":"MTLC0001","newEventID":"MTLA110519","newEventType":"conference","oldEventID":"TORM100519","oldEventType":"seminar","op":"swapEvent"}`,
	} {
		if 2*i+1 >= len(records) {
			t.Fatalf("%d records", len(records))
		}
		sent, came := records[2*i], records[2*i+1]
		if sent["id"] == "" || sent["id"] != came["id"] || sent["status"] != "sent" || came["status"] == "sent" {
			t.Errorf("records %v and %v", sent, came)
		}
		for _, name := range []string{"id", "by", "status", "response"} {
			delete(sent, name)
		}
		if got, err := json.Marshal(sent); err != nil || string(got) != want {
			t.Errorf("asked for %s, want %s", got, want)
		}
	}
}

func TestUserLogTellsThatThereIsNoResponse(t *testing.T) {
	for _, test := range []struct {
		fault  onenode.Fault
		code   dems.Code
		status string
	}{
		{onenode.Hang, dems.OK, "no response"},
		{onenode.None, dems.Unavailable, "failed"},
		{onenode.None, dems.NoMajority, "unknown"},
		{onenode.None, dems.Indeterminate, "unknown"},
		{onenode.None, dems.Internal, "unknown"},
	} {
		t.Run(fmt.Sprintf("%s %s", test.fault, test.code), func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			s := start(t, "TORM0001", 1, withLog(t, folder))
			s.frontEnds[0].Fault(test.fault)
			s.cluster.Fail(slices.Repeat([]dems.Code{test.code}, 10_000)...)
			if _, err := addOne(t, s); err == nil {
				t.Error("no error")
			}
			records := readLog(t, folder, "TORM0001")
			if len(records) != 2 || records[1]["status"] != test.status {
				t.Errorf("%v, want the status %q", records, test.status)
			}
		})
	}
}

// TestTheRequestIsRecordedBeforeItIsSent has the front end look at the log: what it sees is what a killed client leaves.
func TestTheRequestIsRecordedBeforeItIsSent(t *testing.T) {
	folder := t.TempDir()
	s := start(t, "TORM0001", 1, withLog(t, folder))
	done := make(chan error, 1)
	applied := s.cluster.NextApplied()
	s.frontEnds[0].Fault(onenode.HangAfter)
	go func() {
		_, err := s.AddEvent(t.Context(), eventKey(t, dems.Seminar, "TORM100519"), 3)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it ended before it was applied: %v", err)
	case <-applied:
	}
	records := readLog(t, folder, "TORM0001")
	if len(records) != 1 || records[0]["status"] != "sent" || records[0]["response"] != "none yet" {
		t.Errorf("the log says %v", records)
	}
	wantError(t, <-done, dems.Indeterminate)
}

func TestUserLogOfEachUser(t *testing.T) {
	folder := t.TempDir()
	s := start(t, "TORM0001", 1, withLog(t, folder))
	for _, user := range []string{"TORM0001", "OTWM0002", "MTLM0003"} {
		if _, err := s.As(userID(t, user)).ListEventAvailability(t.Context(), dems.Seminar); err != nil {
			t.Fatal(err)
		}
		if got := len(readLog(t, folder, user)); got != 2 {
			t.Errorf("%s: %d records", user, got)
		}
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 3 {
		t.Errorf("%d files, %v", len(entries), err)
	}
	_, err := s.As(dems.UserID{}).ListEventAvailability(t.Context(), dems.Seminar)
	wantError(t, err, dems.Unauthenticated)
}

func TestNothingIsSentThatCannotBeRecorded(t *testing.T) {
	folder := t.TempDir()
	s := start(t, "TORM0001", 1, withLog(t, folder))
	if err := os.Mkdir(filepath.Join(folder, "TORM0001.log"), 0o700); err != nil { // root may write everything but this
		t.Fatal(err)
	}
	_, err := addOne(t, s)
	failed, ok := errors.AsType[*client.UserLogError](err)
	if !ok || !strings.Contains(failed.Error(), "TORM0001.log") {
		t.Errorf("error %v", err)
	}
	if len(s.frontEnds[0].Requests()) != 0 {
		t.Error("it was sent")
	}
}

func TestFolderThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := client.OpenUserLog(filepath.Join(file, "logs"))
	if failed, ok := errors.AsType[*client.UserLogError](err); !ok || !strings.Contains(failed.Error(), "choose a folder") {
		t.Errorf("error %v", err)
	}
}

// TestFullDisk: before it is sent, an operation that cannot be recorded is an error.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	s := start(t, "TORM0001", 1, withLog(t, folder))
	if err := os.Symlink("/dev/full", filepath.Join(folder, "TORM0001.log")); err != nil {
		t.Fatal(err)
	}
	_, err := addOne(t, s)
	if _, ok := errors.AsType[*client.UserLogError](err); !ok || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
	if len(s.frontEnds[0].Requests()) != 0 {
		t.Error("it was sent")
	}
}

func TestLineCutShortDoesNotSpoilTheNext(t *testing.T) {
	folder := t.TempDir()
	s := start(t, "TORM0001", 1, withLog(t, folder))
	path := filepath.Join(folder, "TORM0001.log")
	if err := os.WriteFile(path, []byte(`{"time":"2026-01`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := addOne(t, s); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || !json.Valid([]byte(lines[1])) || !json.Valid([]byte(lines[2])) || lines[3] != "" {
		t.Errorf("log %q", text)
	}
}

func TestLargeAnswersAreNotRepeated(t *testing.T) {
	folder := t.TempDir()
	s := start(t, "TORM0001", 1, withLog(t, folder))
	for day := 1; day <= 28; day++ {
		for month := 1; month <= 12; month++ {
			for _, slot := range "MAE" {
				id := fmt.Sprintf("TOR%c%02d%02d19", slot, day, month)
				if _, err := s.As(userID(t, "TORM0002")).AddEvent(t.Context(), eventKey(t, dems.Seminar, id), 3); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if _, err := s.ListEventAvailability(t.Context(), dems.Seminar); err != nil {
		t.Fatal(err)
	}
	records := readLog(t, folder, "TORM0001")
	if response, _ := records[1]["response"].(string); !strings.Contains(response, "bytes, too many") {
		t.Errorf("response %.100v", records[1]["response"])
	}
}

func TestManyOperationsAtOnceLeaveWholeLines(t *testing.T) {
	folder := t.TempDir()
	const clients, operations = 8, 20
	s := start(t, "TORM0001", 1, nil)
	var running sync.WaitGroup
	for range clients {
		config := client.Config{Endpoints: []string{s.frontEnds[0].URL}, User: userID(t, "TORM0001")}
		withLog(t, folder)(&config)
		config.Timeout = 10 * time.Second
		c := newClient(t, config)
		running.Go(func() {
			for range operations {
				if _, err := c.ListEventAvailability(t.Context(), dems.Seminar); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	statuses := make(map[any]int)
	for _, r := range readLog(t, folder, "TORM0001") {
		statuses[r["status"]]++
	}
	if statuses["sent"] != clients*operations || statuses["completed"] != clients*operations {
		t.Errorf("records %v, want %d of each", statuses, clients*operations)
	}
}

func TestDefaultLogFolder(t *testing.T) {
	for _, test := range []struct {
		environment map[string]string
		want        string
	}{
		{map[string]string{"DEMS_LOG_DIR": "/a", "XDG_STATE_HOME": "/b", "HOME": "/c"}, "/a"},
		{map[string]string{"XDG_STATE_HOME": "/b", "HOME": "/c"}, "/b/dems/logs"},
		{map[string]string{"XDG_STATE_HOME": "b", "HOME": "/c"}, "/c/.local/state/dems/logs"},
		{map[string]string{"HOME": "/c"}, "/c/.local/state/dems/logs"},
		{nil, ""},
	} {
		got, err := client.DefaultLogFolder(func(name string) string { return test.environment[name] })
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%v: %q, %v, want %q", test.environment, got, err, test.want)
		}
	}
}
