// What the page asks of the server. Every answer says plainly whether a decision is on the disk.

async function request(path, options) {
  try {
    const response = await fetch(path, options);
    return { status: response.status, content: await response.json() };
  } catch {
    return { status: 0, content: {} };
  }
}

const GONE =
  "The review does not answer: was it ended in its terminal? Start it again with " +
  "flyweight label --review FOLDER; everything that was saved is kept.";

function reason({ status, content }) {
  if (status === 0) return GONE;
  if (status === 403) return `${content.error}. Open the address that the terminal shows now.`;
  if (status === 507) return `${content.error}. Nothing is lost but this: free some space, then decide again.`;
  return content.error ?? `the server answers ${status}`;
}

/** The data set: its name, classes, the order of its pictures and which of them are done. */
export async function getSession() {
  const answer = await request("session");
  if (answer.status !== 200) throw new Error(reason(answer));
  return answer.content;
}

/** A picture and its boxes, as the file has them now. */
export async function getPicture(row) {
  const answer = await request(`pictures/${row}`);
  if (answer.status !== 200) throw new Error(reason(answer));
  return answer.content;
}

/**
 * Send a decision on a picture as it is shown.
 * Gives {outcome, picture, reason}: `saved` with the picture after it; `stale` with the picture as
 * others have made it meanwhile; `failed` with the reason.
 */
export async function sendDecision(picture, decision) {
  const answer = await request("decide", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...decision, picture: picture.row, revision: picture.revision }),
  });
  if (answer.status === 200) return { outcome: "saved", picture: answer.content };
  if (answer.status === 409) return { outcome: "stale", picture: answer.content.picture };
  return { outcome: "failed", reason: reason(answer) };
}
