package release

import (
	"strconv"
	"strings"
)

// LabelStateSchema is the label of a service, or else of its image, that says
// in which schema it keeps its state: a whole number that is counted up by
// whatever makes the state unreadable for the versions before. A service that
// has no such label is at FirstStateSchema.
const LabelStateSchema = "promote.state-schema"

// FirstStateSchema is where counting begins.
const FirstStateSchema int64 = 1

// mostSchemaDigits keeps schemas within what people count.
const mostSchemaDigits = 9

// StateSchema reads LabelStateSchema from a service's labels, which come before
// its image's.
func StateSchema(labels ...map[string]string) (int64, error) {
	for _, set := range labels {
		text, ok := set[LabelStateSchema]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < FirstStateSchema || len(text) > mostSchemaDigits || strings.Trim(text, "0123456789") != "" {
			return 0, Faultf(KindConfig, `write a whole number from 1 on: `+LabelStateSchema+`: "3"`, "label %s: expected a whole number from 1 on, got %.40q", LabelStateSchema, text)
		}
		return n, nil
	}
	return FirstStateSchema, nil
}
