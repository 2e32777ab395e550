package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dems"
	"dems/client"
)

// refuse is an error that demsctl itself gives before anything is sent. Without a detail it gives the code's advice.
func refuse(code dems.Code, detail string) error {
	if detail == "" {
		detail = code.Advice()
	}
	return &client.Error{Code: code, Detail: detail}
}

// parseEvent parses an event ID and then an event type.
func parseEvent(id, eventType string) (dems.EventKey, error) {
	var (
		key dems.EventKey
		ok  bool
	)
	if key.ID, ok = dems.ParseEventID(id); !ok {
		return key, refuse(dems.InvalidEventID, "")
	}
	if key.Type, ok = dems.ParseEventType(eventType); !ok {
		return key, refuse(dems.InvalidEventType, "")
	}
	return key, nil
}

// parseReference parses seminar/TORM100519.
func parseReference(flag, text string) (dems.EventKey, error) {
	eventType, id, ok := strings.Cut(text, "/")
	if !ok {
		return dems.EventKey{}, fmt.Errorf("--%s %q: write the type, a slash and the ID, as in seminar/TORM100519", flag, text)
	}
	return parseEvent(id, eventType)
}

// parseCustomer parses the customer that an operation is for: the user, if that is a customer and no other is named.
func parseCustomer(text string, user dems.UserID) (dems.UserID, error) {
	if text == "" {
		if user.IsCustomer() {
			return user, nil
		}
		return dems.UserID{}, errors.New("a manager acts for a customer: name one with --customer, as in --customer MTLC0001")
	}
	customer, ok := dems.ParseUserID(text)
	if !ok || !customer.IsCustomer() {
		return dems.UserID{}, refuse(dems.InvalidUserID, "")
	}
	return customer, nil
}

// parseCapacity parses a number of seats. It is text until here so that it is judged after the identifiers, as the front
// end does.
func parseCapacity(text string) (uint32, error) {
	capacity, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil || capacity < 1 || capacity > dems.MaxCapacity {
		return 0, refuse(dems.InvalidCapacity, "")
	}
	return uint32(capacity), nil
}

// keyFlag adds --idempotency-key to a command and returns its value.
func keyFlag(command *cobra.Command) *string {
	key := new(keyValue)
	command.Flags().Var(key, "idempotency-key", "ask again under the key of an earlier invocation, to learn what came of it")
	return (*string)(key)
}

// keyValue is the value of --idempotency-key. It refuses an empty one, a variable that is not set say: taken for no key,
// it would make what is asked again a new request.
type keyValue string

// String implements pflag.Value.
func (k *keyValue) String() string { return string(*k) }

// Type implements pflag.Value.
func (k *keyValue) Type() string { return "string" }

// Set implements pflag.Value.
func (k *keyValue) Set(text string) error {
	if text == "" {
		return errors.New("a key has at least one character; leave the flag out for a new request")
	}
	*k = keyValue(text)
	return nil
}

// keyOption returns the option for a key, if there is one.
func keyOption(key string) []client.Option {
	if key == "" {
		return nil
	}
	return []client.Option{client.WithKey(key)}
}

// completeEvent completes the arguments EVENT-ID EVENT-TYPE.
func completeEvent(_ *cobra.Command, arguments []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(arguments) == 1 {
		return eventTypeNames(), cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// completeType completes the argument EVENT-TYPE.
func completeType(_ *cobra.Command, arguments []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(arguments) == 0 {
		return eventTypeNames(), cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func eventTypeNames() []string {
	names := make([]string, len(dems.EventTypes))
	for i, eventType := range dems.EventTypes {
		names[i] = eventType.String()
	}
	return names
}
