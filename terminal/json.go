package terminal

import (
	"encoding/json"
	"fmt"
	"io"
)

// JSON prints each of the objects in a line of its own.
func JSON[T any](w io.Writer, objects []T) error {
	lines := json.NewEncoder(w)
	for _, o := range objects {
		if err := lines.Encode(o); err != nil {
			return fmt.Errorf("printing: %w", err)
		}
	}
	return nil
}
