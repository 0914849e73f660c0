import { measureParity } from "./parity.js";

const verdict = document.getElementById("verdict");
try {
  const report = await measureParity();
  verdict.textContent = report.passed ? "Yes: every answer is within the tolerance." : "No: this browser computes something else.";
  document.getElementById("report").textContent = JSON.stringify(report, null, 2);
} catch (error) {
  verdict.textContent = error.message;
}
