// Package conformance holds the cases that say what the operations do, and runs them against anything that can do
// operations: the bare state machine, an in-process cluster, the REST API of real processes. It owns the cases and the
// rule by which an answer matches; it starts no goroutine.
package conformance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// stepDeadline is how long one step may take; a step that takes longer fails its case.
const stepDeadline = 30 * time.Second

//go:embed testdata/*.jsonl
var files embed.FS

// Case is a story that starts with no events.
type Case struct {
	Name  string `json:"name"`
	Steps []Step `json:"steps"`
}

// Step is one operation and what has to come of it.
type Step struct {
	As   string    `json:"as"`
	Do   Operation `json:"do"`
	Want Want      `json:"want"`
}

// Operation is an operation as it stands in a case: "op", its parameters by name, and perhaps "key". Numbers are
// json.Number.
type Operation map[string]any

// Text returns a parameter as text: a number as it was written, "" if it is absent.
func (o Operation) Text(name string) string {
	if value, found := o[name]; found {
		return fmt.Sprint(value)
	}
	return ""
}

// Want is what has to come back.
type Want struct {
	Status   int   `json:"status"`
	Body     any   `json:"body"`
	Replayed *bool `json:"replayed"`
}

// Answer is what came back.
type Answer struct {
	Status   int // HTTP status; 0 where there is no HTTP
	Body     any // decoded JSON, numbers as json.Number
	Replayed bool
	Sequence uint64 // the log index that ordered the operation, where there is HTTP
}

// Target does operations.
type Target interface {
	// Do does one operation on behalf of a user. An error means that there is no answer; a refusal is an answer.
	Do(ctx context.Context, as string, operation Operation) (Answer, error)
}

// Cases returns every case.
func Cases() ([]Case, error) {
	var cases []Case
	err := fs.WalkDir(files, "testdata", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(bytes.NewReader(data))
		lines.Buffer(nil, 1<<20)
		for number := 1; lines.Scan(); number++ {
			var next Case
			if err := decode(lines.Bytes(), &next); err != nil {
				return fmt.Errorf("%s:%d: %w", name, number, err)
			}
			cases = append(cases, next)
		}
		return lines.Err()
	})
	return cases, err
}

// decode decodes one JSON value, strictly and with numbers as they were written.
func decode(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if decoder.More() {
		return fmt.Errorf("more than one value")
	}
	return nil
}

// Run runs every case, each as a subtest, one after the other.
func Run(t *testing.T, target Target) {
	t.Helper()
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	for _, next := range cases {
		t.Run(next.Name, func(t *testing.T) { runCase(t, target, next) })
	}
}

func runCase(t *testing.T, target Target, c Case) {
	run := rand.Text()
	added := map[[2]string]bool{}
	for i, step := range c.Steps {
		operation := maps.Clone(step.Do)
		if key, ok := operation["key"].(string); ok {
			operation["key"] = strings.ReplaceAll(key, "$RUN", run)
		}
		answer, err := do(t, target, step.As, operation)
		if err != nil {
			t.Errorf("step %d: %s by %s: %v", i+1, describe(operation), step.As, err)
			break // what follows rests on what this step did
		}
		if event, ok := addedEvent(operation, answer); ok {
			added[event] = true
		}
		if problem := step.Want.Mismatch(answer); problem != "" {
			t.Errorf("step %d: %s by %s: %s", i+1, describe(operation), step.As, problem)
		}
	}
	for event := range added {
		remove(t, target, event[0], event[1])
	}
}

func do(t *testing.T, target Target, as string, operation Operation) (Answer, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stepDeadline)
	defer cancel()
	return target.Do(ctx, as, operation)
}

// addedEvent returns the event that an answer says was added, in its canonical spelling.
func addedEvent(operation Operation, answer Answer) (event [2]string, added bool) {
	body, _ := answer.Body.(map[string]any)
	view, _ := body["event"].(map[string]any)
	if operation["op"] != "addEvent" || view == nil {
		return event, false
	}
	return [2]string{fmt.Sprint(view["eventID"]), fmt.Sprint(view["eventType"])}, true
}

// remove removes an event with its bookings, if it is still there.
func remove(t *testing.T, target Target, eventID, eventType string) {
	t.Helper()
	answer, err := do(t, target, eventID[:3]+"M9999", Operation{
		"op": "removeEvent", "eventID": eventID, "eventType": eventType, "bookings": "cancel",
	})
	if err != nil {
		t.Errorf("removing %s/%s: %v", eventType, eventID, err)
		return
	}
	if code := codeOf(answer.Body); code != "" && code != "event_not_found" {
		t.Errorf("removing %s/%s: %s", eventType, eventID, code)
	}
}

// codeOf returns the error code in a body, "" where there is none.
func codeOf(body any) string {
	object, _ := body.(map[string]any)
	code, _ := object["code"].(string)
	return code
}

func describe(operation Operation) string {
	text, err := json.Marshal(operation)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Mismatch returns how an answer differs from what is wanted, "" if it does not.
func (want Want) Mismatch(got Answer) string {
	if got.Status == 0 {
		if succeeded := codeOf(got.Body) == ""; succeeded != (want.Status < 300) {
			return fmt.Sprintf("got %s, want what has status %d", show(got.Body), want.Status)
		}
	} else if got.Status != want.Status {
		return fmt.Sprintf("status %d, want %d; body %s", got.Status, want.Status, show(got.Body))
	}
	if want.Replayed != nil && *want.Replayed != got.Replayed {
		return fmt.Sprintf("replayed is %t, want %t", got.Replayed, *want.Replayed)
	}
	if want.Body == nil {
		return ""
	}
	return different("body", want.Body, got.Body)
}

// different compares objects on the keys that are wanted, arrays element by element, everything else as it is.
func different(where string, want, got any) string {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %s, want an object", where, show(got))
		}
		for _, key := range slices.Sorted(maps.Keys(want)) {
			value, found := object[key]
			if !found {
				return fmt.Sprintf("%s.%s is missing, want %s", where, key, show(want[key]))
			}
			if problem := different(where+"."+key, want[key], value); problem != "" {
				return problem
			}
		}
		return ""
	case []any:
		array, ok := got.([]any)
		if !ok || len(array) != len(want) {
			return fmt.Sprintf("%s is %s, want %d elements like %s", where, show(got), len(want), show(want))
		}
		for i := range want {
			if problem := different(fmt.Sprintf("%s[%d]", where, i), want[i], array[i]); problem != "" {
				return problem
			}
		}
		return ""
	}
	if want != got {
		return fmt.Sprintf("%s is %s, want %s", where, show(got), show(want))
	}
	return ""
}

func show(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
