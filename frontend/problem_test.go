package frontend

import (
	"encoding/json"
	"strings"
	"testing"

	"dems"
)

func TestEveryCodeHasAStatus(t *testing.T) {
	for _, code := range dems.Codes() {
		if int(code) >= len(statuses) || statuses[code] < 400 || statuses[code] > 599 {
			t.Errorf("%s has no status of an error", code)
		}
		if code != dems.Internal && statusOf(code) == 500 {
			t.Errorf("%s has the status of an internal error", code)
		}
	}
	if len(statuses) != len(dems.Codes())+1 {
		t.Errorf("%d statuses for %d codes", len(statuses)-1, len(dems.Codes()))
	}
	if statusOf(dems.OK) != 500 || statusOf(200) != 500 {
		t.Error("what is no code of an error must be an internal error")
	}
}

// TestStatuses repeats the table of the specification.
func TestStatuses(t *testing.T) {
	for status, names := range map[int]string{
		400: "malformed_request invalid_user_id invalid_event_id invalid_event_type invalid_capacity invalid_idempotency_key",
		401: "unauthenticated",
		403: "forbidden_role forbidden_city forbidden_customer",
		404: "event_not_found not_booked not_found",
		405: "method_not_allowed", 413: "payload_too_large", 415: "unsupported_media_type",
		409: "already_booked event_full monthly_limit capacity_below_booked has_bookings ambiguous_event_type same_event",
		422: "idempotency_key_reused", 429: "rate_limited", 503: "unavailable no_majority", 504: "indeterminate", 500: "internal",
	} {
		for name := range strings.FieldsSeq(names) {
			if code, ok := dems.ParseCode(name); !ok || statusOf(code) != status {
				t.Errorf("%s has status %d, want %d", name, statusOf(code), status)
			}
		}
	}
}

func TestAppendProblem(t *testing.T) {
	for _, test := range []struct {
		code     dems.Code
		detail   string
		sequence uint64
		want     string
	}{
		{dems.EventFull, "", 812, `{"type":"urn:dems:error:event_full","title":"Event full","status":409,` +
			`"detail":"Every seat is taken; choose another event or ask again after a cancellation.","code":"event_full","sequence":812}`},
		{dems.ForbiddenCity, "No.", 0, `{"type":"urn:dems:error:forbidden_city","title":"Another city's event","status":403,` +
			`"detail":"No.","code":"forbidden_city"}`},
		{dems.MalformedRequest, "a \"b\" \\ \n é\u2028", 0, `{"type":"urn:dems:error:malformed_request","title":"Malformed request","status":400,` +
			`"detail":"a \"b\" \\ \n é\u2028","code":"malformed_request"}`},
	} {
		if got := string(appendProblem(nil, test.code, test.detail, test.sequence)); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestEveryProblemIsJSON(t *testing.T) {
	for _, code := range dems.Codes() {
		var problem struct {
			Type, Title, Detail, Code string
			Status                    int
		}
		if err := json.Unmarshal(appendProblem(nil, code, "", 1), &problem); err != nil {
			t.Errorf("%s: %v", code, err)
		}
		if problem.Code != code.String() || problem.Type != "urn:dems:error:"+code.String() || problem.Detail == "" ||
			problem.Title == "" || problem.Status != statusOf(code) {
			t.Errorf("%s: %+v", code, problem)
		}
	}
}

func FuzzJSONText(f *testing.F) {
	for _, seed := range []string{"", "plain", `"\`, "\x00\x1f\x7f", "é🙂", "\xff", "<&>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var back string
		if err := json.Unmarshal(appendJSONText(nil, text), &back); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if want := strings.ToValidUTF8(text, "\ufffd"); back != want && !strings.ContainsRune(back, '\ufffd') {
			t.Errorf("%q came back as %q", text, back)
		}
	})
}
