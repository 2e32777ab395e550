package dems_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"dems"
)

func TestCodes(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{}
	for _, code := range dems.Codes() {
		text := code.String()
		if !name.MatchString(text) || seen[text] {
			t.Errorf("code %d has the name %q", code, text)
		}
		seen[text] = true
		if parsed, ok := dems.ParseCode(text); !ok || parsed != code {
			t.Errorf("%s does not parse back", text)
		}
		if code.Title() == "" || !strings.HasSuffix(code.Advice(), ".") {
			t.Errorf("%s: title %q, advice %q", text, code.Title(), code.Advice())
		}
	}
	for _, documented := range strings.Fields(`malformed_request invalid_user_id invalid_event_id invalid_event_type
		invalid_capacity invalid_idempotency_key unauthenticated forbidden_role forbidden_city forbidden_customer
		event_not_found not_booked not_found method_not_allowed payload_too_large unsupported_media_type already_booked
		event_full monthly_limit capacity_below_booked has_bookings ambiguous_event_type same_event idempotency_key_reused
		rate_limited unavailable no_majority indeterminate internal`) {
		if !seen[documented] {
			t.Errorf("%s is missing", documented)
		}
		delete(seen, documented)
	}
	for extra := range seen {
		t.Errorf("%s is not documented", extra)
	}
}

func TestUnknownCode(t *testing.T) {
	if _, ok := dems.ParseCode("no_such_code"); ok {
		t.Error("no_such_code parses")
	}
	if code := dems.Code(255); code.String() != "unknown" || code.Title() != "Unknown" || code.Advice() != "" {
		t.Errorf("code 255: %q, %q, %q", code, code.Title(), code.Advice())
	}
}

// TestCodeNumbers pins the numbers, which stand in logs and snapshots.
func TestCodeNumbers(t *testing.T) {
	for number, code := range map[int]dems.Code{
		0: dems.OK, 1: dems.MalformedRequest, 11: dems.EventNotFound, 12: dems.NotBooked, 17: dems.AlreadyBooked,
		18: dems.EventFull, 19: dems.MonthlyLimit, 24: dems.IdempotencyKeyReused, 29: dems.Internal,
	} {
		if int(code) != number {
			t.Errorf("%s is %d, want %d", code, code, number)
		}
	}
}

func TestCodeOf(t *testing.T) {
	full := &dems.Error{Code: dems.EventFull}
	for _, test := range []struct {
		err  error
		want dems.Code
	}{
		{nil, dems.OK}, {full, dems.EventFull}, {fmt.Errorf("booking: %w", full), dems.EventFull},
		{errors.Join(errors.New("other"), full), dems.EventFull}, {errors.New("disk"), dems.Internal},
		{&dems.ReplicaError{Err: full}, dems.EventFull},
	} {
		if got := dems.CodeOf(test.err); got != test.want {
			t.Errorf("CodeOf(%v) = %s, want %s", test.err, got, test.want)
		}
	}
}

func TestErrorText(t *testing.T) {
	if text := (&dems.Error{Code: dems.EventFull}).Error(); text != "event_full: "+dems.EventFull.Advice() {
		t.Errorf("without a detail: %q", text)
	}
	if text := (&dems.Error{Code: dems.EventFull, Detail: "Try Monday."}).Error(); text != "event_full: Try Monday." {
		t.Errorf("with a detail: %q", text)
	}
}

func TestReplicaError(t *testing.T) {
	cause := errors.New("connection refused")
	for _, test := range []struct {
		err  *dems.ReplicaError
		want string
	}{
		{&dems.ReplicaError{}, "replica: outcome unknown"},
		{&dems.ReplicaError{Kind: dems.NotLeader, Leader: "n2"}, "replica: not the leader (leader n2)"},
		{&dems.ReplicaError{Kind: dems.NotApplied, Err: cause}, "replica: not applied: connection refused"},
		{&dems.ReplicaError{Kind: dems.BadRequest}, "replica: bad request"},
		{&dems.ReplicaError{Kind: dems.NotReady}, "replica: not ready"},
		{&dems.ReplicaError{Kind: 99}, "replica: unknown kind of error"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		if errors.Unwrap(test.err) != test.err.Err {
			t.Errorf("%v does not unwrap to its cause", test.err)
		}
	}
}
