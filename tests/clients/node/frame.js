// The frame of every program: one JSON request on stdin, one outcome for each thing presented on stdout.
import { text } from "node:stream/consumers";

// What a person reads of an uncaught error, less the stack. openid-client has our text in members of their own.
const shown = (error) =>
  error.error_description ? `${error} (${error.error}: ${error.error_description})` : `${error}`;

// `programs` by name: each takes the request and returns what presents one thing after the other, so that what a client
// keeps in memory is part of what is tested. `result` names what a success gives.
export async function run(result, programs) {
  const { program, presented, ...request } = JSON.parse(await text(process.stdin));
  const present = programs[program](request);
  const outcomes = [];
  for (const each of presented) {
    try {
      outcomes.push({ [result]: await present(each), error: "" });
    } catch (error) {
      outcomes.push({ [result]: null, error: shown(error) });
    }
  }
  process.stdout.write(JSON.stringify(outcomes));
}
