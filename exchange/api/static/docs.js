// Starts Swagger UI. A file of its own, because the page's policy allows no script inside a page.
"use strict";
const place = document.getElementById("docs");
SwaggerUIBundle({
  url: place.dataset.document,
  domNode: place,
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  syntaxHighlight: false,
  validatorUrl: null,
});
