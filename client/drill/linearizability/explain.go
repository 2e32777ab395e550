package linearizability

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"

	"dems"
	"dems/client/drill/history"
)

// explainShare is the part of a check's bounds that each search for an explanation has.
const explainShare = 8

// Violation is a group whose history no order explains.
type Violation struct {
	Group int
	// AlongLog: no order along the log's sequences explains it, which a server that is right would leave; whether another one
	// does could not be decided.
	AlongLog bool
	// Operations is the shortest part of the group's history, by the time of the answers, that no order explains. What was
	// answered later but sent before is in it as unknown. Nil if the violation is not explained.
	Operations []history.Operation
	// Unplaced is the answer that came last in it: what came before can be explained.
	Unplaced history.Operation
	// Explanation is sentences for people.
	Explanation []string
}

// String returns the sentences.
func (v Violation) String() string {
	if len(v.Explanation) == 0 {
		return fmt.Sprintf("%s explains the answers of group %d.", v.noOrder(), v.Group)
	}
	return strings.Join(v.Explanation, " ")
}

func (v *Violation) noOrder() string {
	if v.AlongLog {
		return "No order along the log"
	}
	return "No order"
}

// explain finds the shortest part of a group's history that no order explains, and says what is wrong with it.
func (v *Violation) explain(ctx context.Context, g group, options Options) {
	options.GroupTimeout /= explainShare
	options.MemoryBytes /= explainShare
	operations := relevant(g.operations)
	answers := inOrderOfReturn(operations)
	// Of a part that no order explains, no longer part can be explained, so the shortest is found by bisection. One that is
	// undecided counts as explained: then the part that is found is longer than it need be.
	explainedTo, unexplainedTo := 0, len(answers)
	for unexplainedTo-explainedTo > 1 {
		middle := (explainedTo + unexplainedTo) / 2
		found := group{operations: upTo(operations, answers[middle-1])}.check(ctx, options)
		if found.verdict == unexplained {
			unexplainedTo, v.AlongLog = middle, found.alongLog
		} else {
			explainedTo = middle
		}
	}
	last := answers[unexplainedTo-1]
	v.Operations, v.Unplaced = upTo(operations, last), last
	v.Explanation = append([]string{
		fmt.Sprintf("%s explains the first %d of the %d answers of group %d.", v.noOrder(), unexplainedTo, len(answers), v.Group),
		fmt.Sprintf("Those before are explained, and this one is not: %s.", describe(&last)),
	}, contradictions(ctx, v.Operations, &last, options)...)
	if unknown := (group{operations: v.Operations}).undecided("").Unknown; unknown > 0 {
		v.Explanation = append(v.Explanation, fmt.Sprintf(
			"Then the outcome of %d more was unknown; done or undone, they do not explain it.", unknown))
	}
}

// inOrderOfReturn returns the operations that were answered, in the order of the answers.
func inOrderOfReturn(operations []history.Operation) []history.Operation {
	answers := slices.DeleteFunc(slices.Clone(operations), func(o history.Operation) bool { return o.Outcome != history.Answered })
	slices.SortFunc(answers, func(a, b history.Operation) int {
		return cmp.Or(cmp.Compare(a.Return, b.Return), cmp.Compare(a.Number, b.Number))
	})
	return answers
}

// upTo returns what was known when an answer came: what was answered later is unknown, what was sent later is not there.
func upTo(operations []history.Operation, last history.Operation) []history.Operation {
	var part []history.Operation
	for _, o := range operations {
		if o.Call > last.Return {
			continue
		}
		if o.Outcome == history.Answered && cmp.Or(cmp.Compare(o.Return, last.Return), cmp.Compare(o.Number, last.Number)) > 0 {
			o.Outcome, o.Result = history.Unknown, dems.Result{}
		}
		part = append(part, o)
	}
	return relevant(part)
}

// contradictions says what is wrong with the last answer in an order that explains those before.
func contradictions(ctx context.Context, operations []history.Operation, last *history.Operation, options Options) []string {
	isLast := func(o history.Operation) bool { return o.Number == last.Number }
	without := slices.DeleteFunc(slices.Clone(operations), isLast)
	if s, order := findOrder(ctx, without, options); s != nil {
		return s.everyPlace(order, last)
	}
	// The others may have seen what it did. Then it has its place, and only the answer is wrong.
	unanswered := slices.Clone(operations)
	place := slices.IndexFunc(unanswered, isLast)
	unanswered[place].Outcome, unanswered[place].Result = history.Unknown, dems.Result{}
	s, order := findOrder(ctx, unanswered, options)
	if s == nil {
		return nil
	}
	positions := s.follow(order)
	_, result := positions[slices.Index(order, place)].state.do(&last.Command)
	return []string{fmt.Sprintf("Others saw what it did, and where they did the rules answer: %s.", describeResult(&result))}
}

// findOrder returns an order that explains all answers, and the search that found it; nil if none was found.
func findOrder(ctx context.Context, operations []history.Operation, options Options) (*search, []int) {
	for _, alongLog := range []bool{true, false} {
		s := newSearch(operations, alongLog, options.brake(ctx, len(operations)))
		if order, found := s.order(); found {
			return s, order
		}
	}
	return nil, nil
}

// follow returns the positions before each operation of an order that was found, and after the last.
func (s *search) follow(order []int) []*position {
	positions := []*position{{state: &state{}}}
	for _, place := range order {
		positions = append(positions, s.step(positions[len(positions)-1], &s.operations[place]))
	}
	return positions
}

// everyPlace says what is wrong with an answer at every place that it can take in an order of the others.
func (s *search) everyPlace(order []int, last *history.Operation) []string {
	positions := s.follow(order)
	first := 0 // the earliest place: after everything that was answered before it was sent
	for i, place := range order {
		if o := &s.operations[place]; o.Outcome == history.Answered && o.Return < last.Call {
			first = i + 1
		}
	}
	var rules, consequences []string
	for i, at := range positions[first:] {
		next, result := at.state.do(&last.Command)
		if !sameAnswer(&result, &last.Result) {
			rules = appendNew(rules, describeResult(&result))
		} else if problem := s.misfit(next, order[first+i:]); problem != "" {
			consequences = appendNew(consequences, "Where it would fit in that order, this does not: "+problem+".")
		}
	}
	sentences := []string{fmt.Sprintf("In an order that explains those before, there was when it was sent: %s.",
		positions[first].state.about(concerns(&last.Command)))}
	if len(rules) > 0 {
		sentences = append(sentences, "There the rules answer: "+strings.Join(rules, "; or, depending on the place: ")+".")
	}
	return append(sentences, consequences...)
}

// misfit does what is left of an order from a state on and returns the first answer that does not fit, "" if all do.
func (s *search) misfit(at *state, order []int) string {
	for _, place := range order {
		o := &s.operations[place]
		next, result := at.do(&o.Command)
		if o.Outcome == history.Answered && !sameAnswer(&result, &o.Result) {
			return describe(o.Operation)
		}
		at = next
	}
	return ""
}

func appendNew(list []string, text string) []string {
	if slices.Contains(list, text) {
		return list
	}
	return append(list, text)
}

// WriteHTML writes a page on which the operations of the violation can be seen in time, with the orders that come furthest. ctx
// bounds the search for those.
func (v Violation) WriteHTML(ctx context.Context, w io.Writer) error {
	options := Options{Workers: 1, MemoryBytes: defaultMemoryBytes / explainShare}.withDefaults()
	s := newSearch(v.Operations, false, options.brake(ctx, len(v.Operations)))
	_, info := porcupine.CheckOperationsVerbose(s.model(), s.history(), 0)
	s.brake = noLimit() // what was found is done once more, to show the states
	return porcupine.Visualize(s.model(), info, w)
}
